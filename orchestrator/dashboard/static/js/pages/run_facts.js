// The lower half of a run's page: health, changes, attempts, checkpoints, lineage, config, logs.

import { get } from "../core/api.js";
import { byId, el, replace, table } from "../core/dom.js";
import { evidence, number, tone, value, when } from "../core/format.js";

const none = (text) => el("p", { class: "note" }, text);

export function facts(run) {
  attempts(run.attempts ?? []);
  checkpoints(run.checkpoints ?? []);
  lineage(run);
  config(run.document.experiment ?? run.document);
}

function attempts(list) {
  replace(byId("attempts"), list.length ? table(["attempt", "from step", "host", "workers", "begun"],
    list.map((a) => [number(a.attempt), number(a.from), value(a.host), number(a.workers), when(a.time)])) : none("None has begun."));
}

function checkpoints(list) {
  const steps = list.map((c) => (typeof c === "object" ? c.step ?? c[0] : c));
  replace(byId("checkpoints"), steps.length
    ? el("p", {}, steps.map((step) => `step ${number(step)}`).join(", ")) : none("None is kept."));
}

function lineage(run) {
  const rows = Object.entries(run.lineage ?? {}).filter(([, v]) => v !== null && v !== "" && !(Array.isArray(v) && !v.length));
  replace(byId("lineage"), rows.length ? fields(rows) : none("It began from nothing and nothing began from it."));
}

// Nested fields as dotted names.
function flat(document, prefix = "") {
  return Object.entries(document).flatMap(([key, any]) => (any && typeof any === "object" && !Array.isArray(any)
    ? flat(any, `${prefix}${key}.`) : [[prefix + key, any]]));
}

function fields(rows) {
  return el("div", { class: "fields" }, rows.map(([key, any]) => el("div", {}, el("span", { class: "note" }, key),
    el("span", {}, linked(any)))));
}

// What looks like a run's id, with or without a step, leads to that run.
function linked(any) {
  if (Array.isArray(any) && any.some((v) => typeof v === "string")) return any.map((v) => [linked(v), " "]);
  const match = /^(\d{8}-\d{6}-[a-z0-9]{6})(@\d+)?$/.exec(String(any));
  return match ? el("a", { href: `/runs/${match[1]}` }, any) : value(any);
}

function config(experiment) {
  const rows = flat(experiment);
  replace(byId("config"), rows.length ? fields(rows) : none("Nothing is known."));
}

// The spells of ill health in words, each a way to its first step.
export function spells(verdicts, changes, go) {
  const ill = verdicts.filter((v) => v.kind !== "healthy");
  const jump = (step, text) => el("button", { type: "button", on: { click: () => go(step) } }, text);
  replace(byId("health"), ill.length ? table(["steps", "verdict", "evidence"], ill.map((v) => [
    jump(v.from, v.from === v.to ? number(v.from) : `${number(v.from)} to ${number(v.to)}`), el("span", { class: `tag ${tone(v.kind)}` }, v.kind),
    evidence(v.evidence)])) : none("Healthy throughout."));
  replace(byId("changes"), changes.length ? table(["step", "why"],
    changes.map((c) => [jump(c.step, number(c.step)), value(c.why)])) : none("None."));
}

const SPEED = [["images_per_second", "images a second"], ["data_wait", "waits for data, share"], ["sync_wait", "waits for other ranks, share"],
  ["cpu_use", "CPU used, share"]];

// `ranks`: each rank's figures at its last tick, where there are several.
export function throughput(curves, ranks) {
  const last = (name) => curves.series[name]?.last.findLast((v) => v !== null);
  const rows = SPEED.filter(([name]) => last(name) !== undefined).map(([name, label]) => [label, number(last(name))]);
  replace(byId("speed"), rows.length ? fields(rows) : none("Not measured."), ranks?.length > 1 && byRank(ranks));
}

function byRank(ranks) {
  const shown = SPEED.filter(([name]) => ranks.some((rank) => rank[name] !== undefined));
  return table(["rank", "host", ...shown.map(([, label]) => label)],
    ranks.map((rank) => [number(rank.rank), value(rank.host), ...shown.map(([name]) => number(rank[name], 3))]), "By rank");
}

export async function logs(api) {
  try {
    const { lines = [] } = await get(`${api}/logs`);
    byId("logs").textContent = lines.length ? lines.join("\n") : "Nothing was logged.";
  } catch (error) {
    byId("logs").textContent = `The logs cannot be had: ${error.message}`;
  }
}

