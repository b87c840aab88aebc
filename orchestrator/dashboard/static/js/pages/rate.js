// Real or generated? One picture after the other; the judgements of a session are sent at its end, once.
// Which run, and how long a picture is shown, are in the address.

import { get, newKey, post } from "../core/api.js";
import { operates, told } from "../core/confirm.js";
import { banner, byId, el, replace, table } from "../core/dom.js";
import { number } from "../core/format.js";
import * as url from "../core/url.js";

const DEFAULTS = { run: "", seconds: "3" };
let session = null; // {run, deck, items, at, shown, judgements}
let hide = 0;

const state = () => url.read(DEFAULTS);
byId("run").addEventListener("change", (event) => set({ run: event.target.value.trim() }));
byId("seconds").addEventListener("change", (event) => set({ seconds: event.target.value }));
byId("generated").addEventListener("click", () => answer(false));
byId("real").addEventListener("click", () => answer(true));
addEventListener("keydown", (event) => {
  if (!session || /INPUT|SELECT/.test(event.target.tagName) || event.repeat) return;
  if (event.key === "ArrowLeft") answer(false);
  else if (event.key === "ArrowRight") answer(true);
  else return;
  event.preventDefault();
});
url.onBack(load);
load();

function set(some) {
  url.write({ ...state(), ...some }, DEFAULTS, true);
  load();
}

async function load() {
  end();
  const { run, seconds } = state();
  byId("run").value = run;
  byId("seconds").value = seconds;
  replace(byId("actions"));
  replace(byId("results"));
  if (!run) {
    byId("told").textContent = "Name a run of pictures.";
    return;
  }
  try {
    const [said, next] = await Promise.all([get(`/api/rate/${encodeURIComponent(run)}`), get(`/api/rate/${encodeURIComponent(run)}/next`)]);
    banner("");
    results(said);
    buttons(run, next);
  } catch (error) {
    byId("told").textContent = "";
    banner(error.message);
  }
}

function buttons(run, next) {
  byId("told").textContent = next.deck ? `A deck of ${next.items} pictures, half of them real, of step ${next.step}.`
    : "No pictures were drawn for this run yet.";
  if (!operates()) return;
  replace(byId("actions"),
    next.deck && el("button", { id: "start", type: "button", class: "primary", on: { click: () => begin(run, next) } }, "Start"),
    " ", el("button", { id: "deal", type: "button", on: { click: () => deal(run) } }, "Draw new pictures"));
}

async function deal(run) {
  byId("deal").disabled = true;
  byId("told").textContent = "Drawing pictures; this takes some seconds …";
  try {
    await post(`/api/rate/${encodeURIComponent(run)}/deck`);
    await load();
  } catch (error) {
    byId("told").textContent = error.message;
    byId("deal").disabled = false;
  }
}

function begin(run, { deck, items }) {
  session = { run, deck, items, at: -1, judgements: [], key: newKey(), waiting: true };
  byId("judge").hidden = false;
  byId("told").textContent = "";
  byId("start").disabled = true;
  show();
}

const source = (at) => `/api/rate/${session.run}/${session.deck}/${at}.png`;

async function show() {
  session.at += 1;
  session.waiting = true;
  const { at, items } = session;
  byId("at").textContent = `${at + 1} of ${items}`;
  const picture = byId("picture");
  picture.classList.remove("gone");
  picture.src = source(at);
  try {
    await picture.decode();
  } catch {
    banner("the picture cannot be shown");
    return;
  }
  if (!session || session.at !== at) return;
  session.shown = performance.now();
  session.waiting = false;
  clearTimeout(hide);
  hide = setTimeout(() => picture.classList.add("gone"), 1000 * Number(state().seconds));
  if (at + 1 < items) new Image().src = source(at + 1);
}

function answer(real) {
  if (!session || session.waiting) return;
  const seconds = (performance.now() - session.shown) / 1000;
  session.judgements.push({ item: session.at, real, seconds: Math.min(3600, Number(seconds.toFixed(3))) });
  if (session.at + 1 < session.items) show();
  else send();
}

async function send() {
  session.waiting = true;
  const { run, deck, judgements, key } = session;
  try {
    const { error, num } = await post(`/api/rate/${encodeURIComponent(run)}`, { deck, judgements }, key);
    told(`You were wrong about ${percent(error)} of ${num} pictures.`);
    await load();
  } catch (error) {
    byId("at").textContent = error.message;
    replace(byId("actions"), el("button", { id: "again", type: "button", on: { click: send } }, "Send again"));
  }
}

function end() {
  session = null;
  clearTimeout(hide);
  byId("judge").hidden = true;
}

const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(0)} %`);

function results(said) {
  if (!said.all) {
    replace(byId("results"), el("p", { class: "note" }, "Nobody has judged it yet."));
    return;
  }
  const row = (label, f) => [label, number(f.num), percent(f.error), `${percent(f.low)} to ${percent(f.high)}`,
    percent(f.error_generated), percent(f.error_real)];
  replace(byId("results"), table(
    ["Step", "Judgements", "Error rate", "95 % interval", "Generated taken for real", "Real taken for generated"],
    [...said.steps.map((f) => row(number(f.step), f)), row(`all, ${said.sessions} sessions`, said.all)]));
}
