// All runs: filter, sort, columns and selection, all of it in the page's address.

import { get } from "../core/api.js";
import { banner, byId, el, replace } from "../core/dom.js";
import { filter } from "../core/filter.js";
import { duration, number, tone, value, when, NONE } from "../core/format.js";
import { onHello, onRuns } from "../core/live.js";
import { Rows } from "../core/rows.js";
import { onBack, read, write } from "../core/url.js";

const MOST = 200; // runs that can be compared
const SHOWN = "sample,name,family,state,verdict,step,fid,coverage,recall,created,seconds,sweep,seed";
const DEFAULTS = { q: "", sort: "-created", columns: SHOWN, runs: "" };

const WIDTHS = { sample: 76, name: 170, id: 190, sweep: 180, verdict: 150, created: 178, time: 178, coverage: 100, seconds: 100, family: 90, state: 110, images_per_second: 110, error_rate: 150, alarm: 200 };
const NUMBERS = new Set(["step", "fid", "kid", "precision", "coverage", "recall", "seconds", "images_per_second", "seed", "attempt", "since", "error_rate", "error_low", "error_high"]);
const LABELS = { seconds: "duration", created: "begun", time: "last heard", images_per_second: "images/s",
  since: "verdict since step", error_rate: "error rate", error_low: "error rate from", error_high: "error rate to" };

let data = {}; // column name -> array
let count = 0;
let places = new Map(); // id -> place in the columns
let view = read(DEFAULTS);
let selected = new Set(view.runs.split(",").filter(Boolean));
let shown = new Set(); // ids in the table
let stale = ""; // why they may be old

const at = (field, row) => data[field]?.[row] ?? null;
const table = new Rows(byId("table"), { sort, key: (row) => at("id", row) });
table.selected = (row) => selected.has(at("id", row));

const CELLS = {
  sample: (row) => picture(row),
  name: (row) => el("a", { href: `/runs/${at("id", row)}`, data: { part: "name" }, title: at("name", row) }, at("name", row) ?? NONE),
  state: (row) => tag(at("state", row)),
  verdict: (row) => tag(at("verdict", row)),
  created: (row) => when(at("created", row)),
  time: (row) => when(at("time", row)),
  seconds: (row) => duration(at("seconds", row)),
  seed: (row) => value(at("seed", row)),
  error_rate: (row) => errors(row),
};

function tag(word) {
  return word ? el("span", { class: `tag ${tone(word)}`, title: word }, word) : NONE;
}

function picture(row) {
  const step = at("sample", row);
  if (step === null) return "";
  const src = `/api/runs/${at("id", row)}/samples/${step}.png`;
  return el("img", { src, alt: "", loading: "lazy", decoding: "async", width: "34", height: "34" });
}

// How often people took real pictures for generated ones or the other way round, with the 95 % interval.
function errors(row) {
  const percent = (name) => Math.round(100 * at(name, row));
  return at("error_rate", row) === null ? NONE : `${percent("error_rate")} % (${percent("error_low")} to ${percent("error_high")})`;
}

function tick(row) {
  const id = at("id", row);
  return el("input", {
    type: "checkbox", "aria-label": `Select ${at("name", row)} ${id}`, checked: selected.has(id), data: { part: "tick" },
    on: { change: (event) => choose([id], event.target.checked) },
  });
}

function fields() {
  return Object.keys(data).filter((name) => Array.isArray(data[name]));
}

function columns() {
  const names = view.columns.split(",").filter((name) => name in data);
  const made = names.map((name) => ({
    name, label: LABELS[name] ?? name, width: WIDTHS[name] ?? 84, num: NUMBERS.has(name),
    cell: CELLS[name] ?? ((row) => (NUMBERS.has(name) ? number(at(name, row), 3) : value(at(name, row)))),
  }));
  return [{ name: "", label: "Selected", plain: true, width: 40, cell: tick }, ...made];
}

function sort(name) {
  const now = view.sort.replace(/^-/, "");
  const down = now === name ? !view.sort.startsWith("-") : NUMBERS.has(name) && !/fid|kid|since/.test(name);
  change({ sort: (down ? "-" : "") + name }, true);
}

// The places of rows that pass the filter, in order. What a run does not tell comes last, whichever way.
function ordered() {
  const { test, error } = filter(view.q, fields(), at);
  const rows = [];
  for (let row = 0; row < count; row += 1) if (test(row)) rows.push(row);
  const values = data[view.sort.replace(/^-/, "")] ?? data.created;
  const sign = view.sort.startsWith("-") ? -1 : 1;
  rows.sort((a, b) => {
    const x = values[a];
    const y = values[b];
    if (x === y) return a - b;
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return x < y ? -sign : sign;
  });
  return { rows, error };
}

function show(keep = false) {
  const { rows, error } = ordered();
  shown = new Set(rows.map((row) => data.id[row]));
  table.setOrder(rows, keep);
  byId("fresh").hidden = true;
  const help = byId("filter-help");
  help.classList.toggle("bad", Boolean(error));
  help.textContent = error || `${number(rows.length)} of ${number(count)} runs${selected.size ? `, ${selected.size} selected` : ""}`;
}

function chosen() {
  byId("none").disabled = !selected.size;
  const link = byId("compare");
  const ids = [...selected].slice(0, MOST);
  link.textContent = selected.size ? `Compare ${ids.length}` : "Compare";
  if (ids.length) link.setAttribute("href", `/compare?runs=${ids.join(",")}`);
  else link.removeAttribute("href");
  link.setAttribute("aria-disabled", String(!ids.length));
}

function choose(ids, on) {
  for (const id of ids) selected[on ? "add" : "delete"](id);
  change({ runs: [...selected].slice(0, MOST).join(",") }, false, true);
  table.update(ids);
  chosen();
}

function heads() {
  table.setColumns(columns(), view.sort.replace(/^-/, ""), view.sort.startsWith("-"));
  const on = new Set(view.columns.split(","));
  replace(byId("columns"), fields().map((name) => el("label", {}, el("input", {
    type: "checkbox", checked: on.has(name),
    on: { change: (event) => {
      if (event.target.checked) on.add(name);
      else on.delete(name);
      change({ columns: fields().filter((f) => on.has(f)).join(",") }, true);
    } },
  }), ` ${LABELS[name] ?? name}`)));
}

function change(changes, push, quiet = false) {
  const before = view;
  view = { ...view, ...changes };
  write(view, DEFAULTS, push);
  if (quiet) return;
  if (before.sort !== view.sort || before.columns !== view.columns) heads();
  byId("table").scrollTop = 0;
  show();
}

// Rows that changed: those in view are drawn anew where they are; new ones join without moving what is looked at.
function heard(rows) {
  const known = [];
  let fresh = 0;
  for (const row of rows) {
    const place = places.get(row.id);
    if (place === undefined) add(row);
    else for (const name of fields()) if (name in row) data[name][place] = row[name];
    if (place === undefined) fresh += 1;
    else known.push(row.id);
  }
  table.update(known);
  if (!fresh) return;
  const box = byId("table");
  if (table.scrolled || box.matches(":hover") || box.contains(document.activeElement)) announce();
  else show();
}

function add(row) {
  for (const name of fields()) data[name].push(row[name] ?? null);
  places.set(row.id, count);
  count += 1;
}

function announce() {
  const missing = ordered().rows.filter((row) => !shown.has(data.id[row])).length;
  byId("fresh").hidden = !missing;
  byId("fresh").textContent = `${missing} new run${missing === 1 ? "" : "s"}: show`;
}

async function load() {
  try {
    const told = await get("/api/runs");
    const first = !count;
    data = told.columns;
    count = told.count;
    places = new Map(data.id.map((id, place) => [id, place]));
    heads();
    if (first) byId("filter").value = view.q;
    show(!first);
    chosen();
    stale = told.stale;
    banner(stale ? `This is what the store last said: ${stale}` : "");
  } catch (error) {
    banner(error.message);
    setTimeout(() => { loaded = load(); }, 3000);
  }
}

let typing = 0;
let typed = false; // the first letter makes a step for the back button, the ones after it join that step
byId("filter").value = view.q;
byId("filter").addEventListener("input", (event) => {
  cancelAnimationFrame(typing);
  typing = requestAnimationFrame(() => {
    change({ q: event.target.value }, !typed);
    typed = true;
  });
});
byId("filter").addEventListener("change", () => { typed = false; });
byId("all").addEventListener("click", () => choose([...shown].slice(0, MOST), true));
byId("none").addEventListener("click", () => choose([...selected], false));
byId("fresh").addEventListener("click", () => {
  show();
  byId("table").scrollTop = 0;
});
onBack(() => {
  view = read(DEFAULTS);
  selected = new Set(view.runs.split(",").filter(Boolean));
  byId("filter").value = view.q;
  heads();
  show();
  chosen();
});
let loaded = load();
// What is heard while all is read may be newer than that.
onRuns(async (rows) => {
  await loaded;
  if (data.id) heard(rows);
});
let met = false;
onHello(async (said) => {
  await loaded;
  if (met || said.stale !== stale) loaded = load();
  met = true;
});
