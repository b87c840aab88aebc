// Runs over each other: one metric's curves, what differs in their configs, and a wall of samples.

import { get, query } from "../core/api.js";
import { Board, dash, paint } from "../core/chart.js";
import { banner, byId, el, replace } from "../core/dom.js";
import { number, value } from "../core/format.js";
import { onBack, read, write } from "../core/url.js";

const DEFAULTS = { runs: "", name: "fid", log: "" };
const COLUMNS = 12; // steps on the wall
const STYLES = ["", "dashed", "dotted"];

let view = read(DEFAULTS);
let told = null;
let labels = {};
const board = new Board();
const chart = board.add(byId("chart"), "", { height: 380, legend: false });

const ids = () => view.runs.split(",").filter(Boolean);

function change(changes) {
  view = { ...view, ...changes };
  write(view, DEFAULTS, true);
}

async function names() {
  const found = new Set(["fid", "loss_d", "loss_g", view.name]);
  // All runs of a family log the same: a few of them tell what there is to choose.
  const asked = ids().slice(0, 3).map((id) => get(`/api/runs/${encodeURIComponent(id)}/curves?${query({ names: "fid", width: 50 })}`));
  for (const answer of await Promise.allSettled(asked)) for (const name of answer.value?.names ?? []) found.add(name);
  replace(byId("metric"), [...found].sort().map((name) => el("option", { value: name, selected: name === view.name }, name)));
  byId("metric").value = view.name;
}

async function load() {
  byId("log").setAttribute("aria-pressed", String(Boolean(view.log)));
  byId("count").textContent = ids().length ? `${ids().length} runs` : "";
  if (!ids().length) {
    byId("said").textContent = "No run is chosen: select some in the table of runs, then Compare.";
    return;
  }
  try {
    const width = Math.max(200, Math.min(1200, byId("chart").clientWidth));
    told = await get(`/api/compare?${query({ runs: ids().join(","), name: view.name, width })}`);
    banner("");
  } catch (error) {
    banner(error.message);
    return;
  }
  labels = naming(await nameOfAll());
  curves();
  config();
  wall();
}

// Names differ like any field; where all are one it is the first run's.
async function nameOfAll() {
  if (told.config?.name) return told.config.name;
  const { document } = await get(`/api/runs/${encodeURIComponent(ids()[0])}`).catch(() => ({}));
  return Object.fromEntries(ids().map((id) => [id, document?.name]));
}

// A run goes by its name and, where several share it, by its id's end.
function naming(of) {
  const many = {};
  for (const id of ids()) many[of[id] ?? id] = (many[of[id] ?? id] ?? 0) + 1;
  return Object.fromEntries(ids().map((id) => {
    const name = of[id] ?? id;
    return [id, many[name] > 1 ? `${name} ${id.slice(-6)}` : name];
  }));
}

function curves() {
  const drawn = ids().filter((id) => told.series[id]?.some((v) => v !== null));
  const missing = ids().length - drawn.length;
  byId("said").textContent = missing ? `${missing} of ${ids().length} runs have no ${view.name}.` : "";
  chart.draw(told.step, drawn.map((id) => ({ label: id, last: told.series[id], stroke: paint(place(id)), dash: dash(place(id)),
    width: drawn.length > 20 ? 1 : 1.5, bare: drawn.length > 20 })));
  legend(drawn);
}

const place = (id) => ids().indexOf(id);

function legend(drawn) {
  const last = (id) => told.series[id].findLast((v) => v !== null);
  replace(byId("legend"), drawn.map((id, i) => el("div", { role: "listitem", on: {
    mouseenter: () => focus(i), mouseleave: () => focus(null), focusin: () => focus(i), focusout: () => focus(null),
  } }, el("span", { class: `swatch ${STYLES[Math.floor(place(id) / 8) % 3]}`, style: { "border-color": paint(place(id)) } }),
  el("a", { href: `/runs/${id}`, title: `${labels[id]} ${id}` }, labels[id]), el("span", { class: "grow" }), number(last(id)))));
}

// One line in front, the others faint.
function focus(index) {
  const { plot } = chart;
  if (!plot) return;
  plot.series.forEach((line, i) => { if (i) line.alpha = index === null || i === index + 1 ? 1 : 0.12; });
  plot.redraw(false);
}

function config() {
  const rows = Object.entries(told.config ?? {});
  if (!rows.length) return replace(byId("config"), el("p", { class: "note" }, "Nothing: their configs are the same."));
  return replace(byId("config"), el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "run"), rows.map(([field]) => el("th", { scope: "col" }, field)))),
    el("tbody", {}, ids().map((id) => el("tr", {}, el("th", { scope: "row" }, labels[id]),
      rows.map(([, of]) => el("td", {}, value(of[id]))))))));
}

// The steps that most runs have pictures of, spread evenly.
function steps() {
  const times = new Map();
  for (const id of ids()) for (const step of told.samples?.[id] ?? []) times.set(step, (times.get(step) ?? 0) + 1);
  const most = Math.max(0, ...times.values());
  const common = [...times.keys()].filter((step) => times.get(step) >= most / 2).sort((a, b) => a - b);
  if (common.length <= COLUMNS) return common;
  const even = Array.from({ length: COLUMNS }, (_, i) => common[Math.round((i * (common.length - 1)) / (COLUMNS - 1))]);
  return [...new Set(even)];
}

function wall() {
  const columns = steps();
  const rows = ids().filter((id) => told.samples?.[id]?.length);
  if (!columns.length) return replace(byId("wall"), el("p", { class: "note" }, "None of them has samples."));
  return replace(byId("wall"), el("table", { class: "grid" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "run"), columns.map((step) => el("th", { scope: "col" }, number(step))))),
    el("tbody", {}, rows.map((id) => el("tr", {}, el("th", { scope: "row" }, labels[id]),
      columns.map((step) => el("td", {}, told.samples[id].includes(step) ? picture(id, step) : "")))))));
}

function picture(id, step) {
  return el("a", { href: `/runs/${id}?step=${step}` }, el("img", { src: `/api/runs/${id}/samples/${step}.png`, loading: "lazy",
    alt: `${labels[id]} at step ${step}`, width: "112", height: "112" }));
}

byId("metric").addEventListener("change", (event) => {
  change({ name: event.target.value });
  load();
});
byId("log").addEventListener("click", () => {
  change({ log: view.log ? "" : "1" });
  byId("log").setAttribute("aria-pressed", String(Boolean(view.log)));
  board.setLog(Boolean(view.log));
});
onBack(() => {
  view = read(DEFAULTS);
  byId("metric").value = view.name;
  board.setLog(Boolean(view.log));
  load();
});
addEventListener("theme", () => told && curves());
board.log = Boolean(view.log);
load().then(names); // the curves first
