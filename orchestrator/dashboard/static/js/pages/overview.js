// What runs now, open alarms, what is next, the servers, the latest samples.

import { get } from "../core/api.js";
import { banner, byId, el, replace, table } from "../core/dom.js";
import { duration, number, tone, value, when } from "../core/format.js";
import { onAlarm, onHello, onRuns, paced } from "../core/live.js";

const LATEST = 12;
const REST = 1000;
const ACTIVE = ["running", "queued", "paused"];

const tag = (word) => (word ? el("span", { class: `tag ${tone(word)}` }, word) : "");
const none = (text) => el("p", { class: "note" }, text);

let runs = []; // newest first
let known = new Map();
let stale = ""; // why they may be old

function rows(told) {
  const names = Object.keys(told.columns).filter((name) => Array.isArray(told.columns[name]));
  return told.columns.id.map((_, i) => Object.fromEntries(names.map((name) => [name, told.columns[name][i]])));
}

function now() {
  const active = runs.filter((run) => ACTIVE.includes(run.state));
  replace(byId("now"), active.length ? table(["run", "state", "verdict", "step", "fid", "time"], active.slice(0, 50).map((run) => [
    el("a", { href: `/runs/${run.id}`, title: run.id }, run.name ?? run.id), tag(run.state), tag(run.verdict), number(run.step),
    number(run.fid), duration(run.seconds)])) : none("Nothing runs."));
  const states = {};
  for (const run of runs) states[run.state] = (states[run.state] ?? 0) + 1;
  const counts = Object.entries(states).sort((a, b) => b[1] - a[1]);
  replace(byId("counts"), counts.length ? counts.map(([state, many]) => el("a", {
    class: `tag ${tone(state)}`, href: `/runs?q=state%3A${encodeURIComponent(state)}` }, `${number(many)} ${state}`)) : none("No run yet."));
}

// Pictures stay where they are while they are the same: only what changed is made anew.
function latest() {
  const made = runs.filter((run) => run.sample !== null && run.sample !== undefined).slice(0, LATEST);
  const box = byId("latest");
  const key = JSON.stringify(made.map((run) => [run.id, run.sample]));
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  replace(box, made.length ? made.map((run) => el("a", { href: `/runs/${run.id}`, title: `${run.name} ${run.id}` },
    el("img", { src: `/api/runs/${run.id}/samples/${run.sample}.png`, alt: `Samples of ${run.name} at step ${run.sample}`,
      width: "144", height: "144", loading: "lazy" }), `${run.name} · ${number(run.sample)}`)) : none("None yet."));
}

async function load() {
  try {
    const told = await get("/api/runs");
    runs = rows(told).sort((a, b) => (b.created ?? 0) - (a.created ?? 0));
    known = new Map(runs.map((run) => [run.id, run]));
    now();
    latest();
    stale = told.stale;
    banner(stale ? `This is what the store last said: ${stale}` : "");
  } catch (error) {
    banner(error.message);
    setTimeout(() => { loaded = load(); }, 3000);
  }
}

async function servers() {
  try {
    const told = await get("/api/status");
    replace(byId("servers"), table(["server", "state", "where"], told.parts.map((part) => [part.what, tag(part.state), value(part.where)])));
    const coming = told.retrainings ?? [];
    replace(byId("next"), coming.length ? table(["retraining", "next", "last round"], coming.map((one) => [
      one.name, one.next ? when(one.next) : "not scheduled, or Prefect is down", value(one.last)])) : none("No retraining is set up."));
  } catch (error) {
    replace(byId("servers"), none(`Not known: ${error.message}`));
  }
}

async function devices() {
  try {
    const { ray, nodes } = await get("/api/cluster");
    if (ray.state !== "up") {
      const why = ray.state === "down" ? "Ray is down: what it runs is not known." : "There is no Ray cluster: runs have processes of their own.";
      replace(byId("devices"), none(why));
      return;
    }
    replace(byId("devices"), table(["node", "in use"], nodes.map((node) => [node.name ?? node.id,
      `${node.devices.filter((device) => device.holders.length).length} of ${node.devices.length} ${node.devices[0]?.kind ?? ""}`])),
    el("p", {}, el("a", { href: "/cluster" }, "who holds which")));
  } catch (error) {
    replace(byId("devices"), none(`Not known: ${error.message}`));
  }
}

async function alarms() {
  try {
    const told = await get("/api/alarms");
    const open = told.alarms.filter((alarm) => alarm.open);
    byId("alarms-box").hidden = false;
    replace(byId("alarms"), open.length ? [table(["rule", "run", "first step"], open.slice(0, 10).map((alarm) => [
      el("span", { class: "tag bad" }, alarm.rule.replaceAll("-", " ")),
      el("a", { href: `/runs/${alarm.run}`, title: alarm.evidence }, alarm.name ?? alarm.run), number(alarm.step)])),
    el("p", {}, el("a", { href: "/alarms" }, open.length > 10 ? `all ${open.length}` : "evidence and actions"))] : none("None."));
  } catch (error) {
    byId("alarms-box").hidden = error.status === 404;
    replace(byId("alarms"), none(`Not known: ${error.message}`));
  }
}

const redraw = paced(() => {
  now();
  latest();
}, REST);
let loaded = load();
// What is heard while all is read may be newer than that.
onRuns(async (changed) => {
  await loaded;
  for (const row of changed) {
    const run = known.get(row.id);
    if (run) Object.assign(run, row);
    else {
      known.set(row.id, row);
      runs.unshift(row);
    }
  }
  redraw();
});
onAlarm(paced(alarms, REST)); // a burst of alarms is one question
let met = false;
onHello(async (said) => {
  await loaded;
  if (met || said.stale !== stale) loaded = load();
  met = true;
});
servers();
alarms();
devices();
setInterval(() => document.visibilityState === "visible" && Promise.all([servers(), devices()]), 15000);
