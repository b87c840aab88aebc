// One sweep: trials, parallel coordinates, importance, quality against diversity, rungs, device-hours.
// What is brushed, filtered and sorted is in the address.

import { actionButton, confirm, told } from "../core/confirm.js";
import { byId, el, renew, replace, table } from "../core/dom.js";
import { NONE, duration, number, value } from "../core/format.js";
import { Parallel, axisOf } from "../core/parallel.js";
import { poll } from "../core/poll.js";
import { Scatter } from "../core/scatter.js";
import * as url from "../core/url.js";

const DEFAULTS = { brush: "", end: "", sort: "number", order: "up" };
const COLOURS = ["--c1", "--c3", "--c4", "--c5", "--c6", "--c7"]; // of ends; a completed trial is --c0, the best --c2
const MOST_ROWS = 500;
const id = byId("head").dataset.sweep;
let sweep = null;

const parallel = new Parallel(byId("parallel"), (brushes) => {
  const brush = Object.entries(brushes).map(([name, [a, b]]) => `${name}~${a.toFixed(3)}~${b.toFixed(3)}`).join(",");
  change({ brush });
});
const scatter = new Scatter(byId("scatter"), (run) => run && location.assign(`/runs/${run}`));

poll(`/api/sweeps/${id}`, (answer) => {
  sweep = answer;
  draw();
});
url.onBack(() => sweep && draw());
byId("end").addEventListener("change", (event) => change({ end: event.target.value }));
byId("clear").addEventListener("click", () => change({ brush: "", end: "" }));

function change(some) {
  url.write({ ...url.read(DEFAULTS), ...some }, DEFAULTS, true);
  draw();
}

function draw() {
  head();
  const state = url.read(DEFAULTS);
  const ends = Object.keys(sweep.summary.ends);
  const options = [el("option", { value: "" }, "any end"), ends.map((end) => el("option", { value: end }, end))];
  if (byId("end").length !== ends.length + 1) replace(byId("end"), options); // an open one stays open
  byId("end").value = state.end;
  const colour = colourOf(ends);
  lines(state, colour);
  const shown = sweep.trials.filter((row, i) => parallel.keeps(i) && (!state.end || row.end === state.end));
  byId("shown").textContent = `${shown.length} of ${sweep.trials.length} trials`;
  trials(sorted(shown, state), state);
  pareto(colour);
  importance();
  costs();
}

function head() {
  const { summary, plan } = sweep;
  byId("name").textContent = summary.name ?? id;
  byId("state").textContent = summary.state;
  byId("facts").textContent = `${plan.sampler} over ${plan.objectives.join(", ")}; stops by ${plan.stop}`
    + `; budget ${Object.entries(summary.budget).map(([k, v]) => `${v} ${k.replace("_", "-")}`).join(", ")}`;
  replace(byId("actions"), summary.state === "running" && actionButton("stop", "Stop the sweep", stop));
}

function stop() {
  confirm({
    title: "Stop this sweep?",
    lines: ["No trial is begun any more; those that train end at their next tick and keep what they have.",
      `It can be carried on: ganctl sweep resume ${id}`],
    button: "Stop the sweep",
    path: `/api/sweeps/${id}/stop`,
    done: () => told("Asked to stop: it ends once its trials have."),
  });
}

const colourOf = (ends) => {
  const others = ends.filter((end) => end !== "complete");
  return (row) => (row.number === sweep.best ? "--c2" : row.end === "complete" ? "--c0"
    : COLOURS[others.indexOf(row.end) % COLOURS.length]);
};

function lines(state, colour) {
  const rows = sweep.trials;
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.params)))];
  const figures = [...new Set(rows.flatMap((row) => Object.keys(row.objectives)))];
  const axes = [
    ...names.map((name) => axisOf(name.replace(/^gan\./, ""), rows.map((row) => row.params[name] ?? null))),
    ...figures.map((name) => axisOf(name, rows.map((row) => row.objectives[name] ?? null))),
    axisOf("end", rows.map((row) => row.end)),
  ];
  const brushes = Object.fromEntries(state.brush.split(",").filter(Boolean)
    .map((one) => one.split("~")).map(([name, a, b]) => [name, [Number(a), Number(b)]]));
  parallel.set(axes, rows.map(colour), brushes);
}

const COLUMNS = {
  number: (r) => r.number, end: (r) => r.end, objective: (r) => r.objectives[sweep.plan.objectives[0]] ?? null,
  step: (r) => r.step, rung: (r) => r.rung, cost: (r) => r.device_seconds,
};

function sorted(rows, { sort, order }) {
  const at = COLUMNS[sort] ?? COLUMNS.number;
  const sign = order === "up" ? 1 : -1;
  return [...rows].sort((a, b) => {
    const [x, y] = [at(a), at(b)];
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return sign * (x < y ? -1 : x > y ? 1 : 0);
  });
}

function resort(name) {
  const { sort, order } = url.read(DEFAULTS);
  change({ sort: name, order: sort === name && order === "up" ? "down" : "up" });
}

function trials(rows, state) {
  const heading = (name, text) => el("button", {
    id: `sort-${name}`, type: "button",
    on: { click: () => resort(name) },
  }, state.sort === name ? `${text} ${state.order === "up" ? "▲" : "▼"}` : text);
  const heads = [heading("number", "Trial"), heading("end", "End"), "Verdict and reason", "Parameters",
    heading("objective", sweep.plan.objectives[0]), heading("step", "Step"), heading("rung", "Rung"),
    heading("cost", "Device time"), "Run"];
  const some = rows.slice(0, MOST_ROWS);
  renew(byId("trials"), heads, some.map(row), some.map((r) => r.number));
  byId("more").hidden = rows.length <= MOST_ROWS;
}

function row(r) {
  const objective = r.objectives[sweep.plan.objectives[0]];
  const why = [r.verdict && r.verdict !== "healthy" ? r.verdict : "", r.evidence, r.reason].filter(Boolean).join(": ");
  return [
    r.number === sweep.best ? `${r.number} (best)` : r.number, r.end, why,
    Object.entries(r.params).map(([k, v]) => `${k.replace(/^gan\./, "")}=${value(v)}`).join(" "),
    number(objective ?? null), number(r.step), number(r.rung), duration(r.device_seconds),
    r.run ? el("a", { href: `/runs/${r.run}` }, r.run) : NONE,
  ];
}

function pareto(colour) {
  const { quality, diversity } = sweep.axes;
  const front = new Set(sweep.front);
  const points = sweep.trials
    .filter((r) => typeof r.objectives[quality] === "number" && typeof r.objectives[diversity] === "number")
    .map((r) => ({ x: r.objectives[quality], y: r.objectives[diversity], colour: colour(r), front: front.has(r.number), key: r.run }));
  scatter.set(points, [quality, diversity]);
  const byNumber = new Map(sweep.trials.map((r) => [r.number, r]));
  replace(byId("front"), sweep.front.map((n) => byNumber.get(n)).map((r) => el("figure", {},
    r.run in sweep.pictures && el("img", {
      src: `/api/runs/${r.run}/samples/${sweep.pictures[r.run]}.png`, alt: `samples of trial ${r.number}`, loading: "lazy",
    }),
    el("figcaption", {}, el("a", { href: `/runs/${r.run}` }, `trial ${r.number}`),
      ` ${quality} ${number(r.objectives[quality], 3)}, ${diversity} ${number(r.objectives[diversity], 3)}`))));
}

function importance() {
  if (!sweep.importance) {
    replace(byId("importance"), el("p", { class: "note" }, "Known once the sweep has ended."));
    return;
  }
  replace(byId("importance"), Object.entries(sweep.importance).map(([name, { shares, reason }]) => [
    el("h3", {}, name),
    reason ? el("p", { class: "note" }, reason) : el("div", { class: "share" }, Object.entries(shares).map(([param, share]) => [
      el("span", {}, param),
      el("span", { class: "track" }, el("span", { style: { width: `${100 * share}%` } })),
      el("span", {}, `${(100 * share).toFixed(0)} %`)])),
  ]));
}

function costs() {
  const { costs: c, rungs } = sweep;
  byId("spent").textContent = `${hours(c.total)} spent, ${hours(c.saved_total)} saved by stopping early`;
  replace(byId("costs"), table(["End", "Trials", "Device-hours spent", "Saved"], Object.keys(c.by_end).map((end) => [
    end, number(c.trials[end]), hours(c.by_end[end]), hours(c.saved[end] ?? 0)])));
  replace(byId("rungs"), rungs.length ? table(["Step", "Reached", "Went no further", "Lowest", "Median", "Highest"],
    rungs.map((r) => [number(r.step), r.reached, r.stopped, number(r.lowest), number(r.median), number(r.highest)]))
    : el("p", { class: "note" }, "Nothing was evaluated yet."));
}

const hours = (seconds) => `${(seconds / 3600).toPrecision(3)} device-hours`;
