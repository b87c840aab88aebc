// One run: curves and samples under one cursor, its health, and all that is known of it.

import { get, query } from "../core/api.js";
import { Board } from "../core/chart.js";
import { banner, byId, replace, el } from "../core/dom.js";
import { duration, evidence, number, tone, when } from "../core/format.js";
import { onAlarm, onHello, onRuns, paced } from "../core/live.js";
import { rates } from "../core/rates.js";
import { Slider } from "../core/slider.js";
import { onBack, read, write } from "../core/url.js";
import { facts, logs, spells, throughput } from "./run_facts.js";

const RUN = byId("head").dataset.run;
const API = `/api/runs/${encodeURIComponent(RUN)}`;
const DEFAULTS = { step: "", zoom: "", log: "" };
const REST = 1500; // ms between two refreshes of a run that goes on
const LOST = "not heard of for a minute: it can be resumed";

// What is drawn, where the run has it: names, or patterns of names.
const CHARTS = [
  ["Losses", [/^loss_/]],
  ["FID and KID", ["fid", "kid"]],
  ["Coverage and recall", ["coverage", "recall", "precision", "density"]],
  ["Gradient norms", [/^grad_/]],
  ["Critic", ["d_accuracy", "d_pairs", "d_sign"]],
  ["Reach and spread of samples", ["probe_reach", "probe_pairwise"]],
  ["Throughput, images a second", ["images_per_second"]],
];

const SPEED = ["data_wait", "sync_wait", "cpu_use"]; // told in figures, not drawn

let view = read(DEFAULTS);
let names = [];
let curves = null;
let run = null; // what /api/runs/<id> said last
const charts = new Map();
const board = new Board({ onStep: (step) => { slider.near(step); told(step); } });
const slider = new Slider((step) => `${API}/samples/${step}.png`, (step) => {
  board.point(step);
  told(step);
  change({ step: slider.atEnd ? "" : String(step) });
});

function change(changes) {
  view = { ...view, ...changes };
  write(view, DEFAULTS);
}

// What the health was at the step under the cursor, and why.
function told(step) {
  const spell = board.verdicts.find((v) => v.kind !== "healthy" && v.from <= step && step <= v.to);
  const why = spell ? evidence(spell.evidence) : "";
  byId("health-at").textContent = spell ? `at step ${number(step)}: ${spell.kind}${why ? `: ${why}` : ""}` : "";
}

async function head() {
  run = await get(API);
  const name = run.document.name ?? RUN;
  document.title = `${name} · ganctl`;
  byId("name").textContent = name;
  mark("state", run.state);
  const last = run.sealed ?? run.live ?? {};
  mark("verdict", last.verdict);
  byId("facts").textContent = [RUN, run.document.family, `step ${number(last.step)}`, duration(last.seconds),
    `begun ${when(run.document.created)}`, run.state === "lost" && LOST].filter(Boolean).join(" · ");
  const asked = view.step === "" ? undefined : Number(view.step);
  slider.setSteps(run.samples ?? [], slider.place < 0 ? asked : undefined);
  facts(run);
}

function mark(id, word) {
  byId(id).textContent = word ?? "";
  byId(id).className = `tag ${tone(word)}`;
}

async function draw() {
  const width = Math.min(2000, Math.max(200, byId("charts").clientWidth));
  if (!names.length) names = (await get(`${API}/curves?${query({ names: "loss_d,loss_g", width })}`)).names ?? [];
  const groups = CHARTS.map(([title, wanted]) => [title, names.filter((n) => wanted.some((w) => (w.test ? w.test(n) : w === n)))]);
  const asked = [...groups.flatMap(([, list]) => list), ...SPEED.filter((n) => names.includes(n))];
  if (!asked.length) return replace(byId("charts"), el("p", { class: "note" }, "No curves yet."));
  curves = await get(`${API}/curves?${query({ names: asked.join(","), width })}`);
  names = curves.names ?? names;
  board.verdicts = curves.verdicts ?? [];
  board.changes = curves.changes ?? [];
  if (!charts.size) replace(byId("charts"));
  for (const [title, list] of groups) {
    one(title, list.filter((n) => n in curves.series));
    if (title === "Gradient norms") learning();
  }
  spells(board.verdicts, board.changes, (step) => { board.point(step); slider.near(step); told(step); });
  throughput(curves, (run.sealed ?? run.live)?.ranks);
  if (view.zoom) board.zoom(view.zoom.split("-").map(Number));
  if (slider.step !== undefined) told(slider.step);
  return null;
}

function one(title, list) {
  if (list.length) show(title, list.map((name) => ({ label: name, ...curves.series[name] })));
}

// No run logs its learning rates: they follow from its config, its schedule and its changes of course.
function learning() {
  const changes = (run.sealed ?? run.live)?.changes;
  const told = rates(run.document.experiment, changes, curves.step);
  if (told) show("Learning rates, as told", Object.entries(told).map(([label, last]) => ({ label, last })));
}

function show(title, lines) {
  if (!charts.has(title)) charts.set(title, board.add(byId("charts"), title));
  charts.get(title).draw(curves.step, lines);
}

const refresh = paced(load, REST);

async function load() {
  try {
    await head();
    await draw();
    banner("");
    await logs(API);
  } catch (error) {
    banner(error.message);
    if (error.status === 0 || error.status >= 500) refresh();
  }
}

const zoom = board.zoom.bind(board);
board.zoom = (range) => {
  zoom(range);
  change({ zoom: range ? range.map((v) => Math.round(v)).join("-") : "" });
};
byId("reset").addEventListener("click", () => board.zoom(null));
byId("log").addEventListener("click", () => change({ log: view.log ? "" : "1" }) ?? logarithmic());

function logarithmic() {
  byId("log").setAttribute("aria-pressed", String(Boolean(view.log)));
  board.setLog(Boolean(view.log));
}

onBack(() => {
  view = read(DEFAULTS);
  logarithmic();
  zoom(view.zoom ? view.zoom.split("-").map(Number) : null);
  if (view.step) slider.near(Number(view.step));
});
onRuns((rows) => rows.some((row) => row.id === RUN) && refresh());
onAlarm((alarm) => alarm.run === RUN && refresh());
let met = false;
onHello((said) => {
  if (met || said.stale) refresh();
  met = true;
});
logarithmic();
load();
