// One model: champion, decisions with both grids side by side, history; promote and roll back.

import { actionButton, confirm, told } from "../core/confirm.js";
import { byId, el, replace, table } from "../core/dom.js";
import { number, value, when } from "../core/format.js";
import { poll } from "../core/poll.js";

const name = byId("head").dataset.model;
const ask = poll(`/api/models/${encodeURIComponent(name)}`, show);

function show(model) {
  const c = model.champion;
  byId("version").textContent = c ? `version ${c.version}` : "nothing promoted";
  byId("facts").textContent = c ? `run ${c.run} at step ${c.step}, since ${when(c.time)}, by ${c.by}: ${c.reason}` : "";
  byId("next").textContent = next(model);
  replace(byId("damaged"), model.damaged.length
    ? `Damaged, and not shown: promotion ${model.damaged.join(", ")}; see ganctl models verify ${name}` : "");
  replace(byId("actions"), buttons(model));
  replace(byId("pictures"), model.pictures.map(picture));
  replace(byId("decisions"), model.decisions.length ? model.decisions.map(decision) : "No decisions yet.");
  replace(byId("promotions"), promotions(model));
  replace(byId("history"), history(model));
}

function next(model) {
  if (!model.retrained) return "It is not retrained on a schedule.";
  const last = model.last ? `Last round ${model.last.round}: ${model.last.state}. ` : "";
  return last + (model.paused ? "Paused." : model.next ? `Next round: ${when(model.next)}.` : "No round is scheduled.");
}

function buttons(model) {
  const after = model.promotions.length || model.damaged.length ? newest(model) : 0;
  const older = model.champion && model.promotions.some((p) => p.version !== model.champion.version);
  return [
    older && actionButton("rollback", "Roll back", () => rollback(model, after, null)),
    actionButton("promote", "Promote a run", () => promote(after)),
  ];
}

const newest = (model) => Math.max(0, ...model.promotions.map((p) => p.number), ...model.damaged);

function rollback(model, after, to) {
  confirm({
    title: to === null ? `Roll ${name} back?` : `Put version ${to} of ${name} in use again?`,
    lines: [
      `In use now: version ${model.champion?.version ?? "?"}.`,
      to === null ? "The version that was in use before it becomes the champion again, at once."
        : `Version ${to} becomes the champion, at once.`,
      "It is a promotion like any other: it can be rolled back too.",
    ],
    fields: [{ name: "reason", label: "Why, for the history" }],
    button: "Roll back",
    path: `/api/models/${encodeURIComponent(name)}/rollback`,
    body: ({ reason }) => ({ to, after, reason }),
    done: ({ promotion }) => {
      told(`Version ${promotion.version} is in use (promotion ${promotion.number}).`);
      ask();
    },
  });
}

function promote(after) {
  confirm({
    title: `Promote a run to ${name}?`,
    lines: ["Its checkpoint becomes the champion at once, without a gate: the one with the best FID, else the newest, "
      + "unless you name a step."],
    fields: [
      { name: "run", label: "Run" },
      { name: "step", label: "Step, or empty" },
      { name: "reason", label: "Why, for the history" },
    ],
    button: "Promote",
    path: `/api/models/${encodeURIComponent(name)}/promote`,
    body: ({ run, step, reason }) => ({ run: run.trim(), step: step.trim() ? Number(step) : null, after, reason }),
    done: ({ promotion }) => {
      told(`Version ${promotion.version} is in use (promotion ${promotion.number}).`);
      ask();
    },
  });
}

function picture(at) {
  const caption = el("figcaption", {}, `version ${at.version}, `, el("a", { href: `/runs/${at.run}` }, at.run));
  if (at.step === null) return el("figure", {}, el("p", { class: "note" }, "no samples"), caption);
  const src = `/api/runs/${at.run}/samples/${at.step}.png`;
  return el("figure", {}, el("img", { src, alt: `samples of version ${at.version}`, loading: "lazy" }), caption);
}

function decision(d) {
  const shown = ["champion", "challenger"].filter((who) => d.pictures[who]);
  return el("article", { class: "decision" },
    el("h3", {}, `Round ${d.round}: ${d.verdict}`, " ", el("span", { class: "note" }, when(d.time))),
    el("p", {}, d.reason),
    el("div", { class: "pair" }, shown.map((who) => el("figure", {},
      el("img", { src: d.pictures[who], alt: `samples of the ${who}, same latents`, loading: "lazy" }),
      el("figcaption", {}, `${who}, `, run(d.contestants[who]))))),
    table(["Check", "Kind", "Champion", "Challenger", "Difference", "From", "To", "Bound", ""],
      d.checks.map((c) => [c.name, c.kind, number(c.champion), number(c.challenger), number(c.difference),
        number(c.low), number(c.high), number(c.bound), c.ok ? "holds" : "fails"])));
}

function run(contestant) {
  return el("a", { href: `/runs/${contestant.run_id}` }, `${contestant.run_id} at ${value(contestant.step)}`);
}

function promotions(model) {
  const after = newest(model);
  const seen = new Set();
  return table(["Number", "Version", "Kind", "Run", "Step", "When", "By", "Why", ""], model.promotions.map((p) => {
    const first = !seen.has(p.version) && p.version !== model.champion?.version;
    seen.add(p.version);
    return [p.number, p.version, p.kind, el("a", { href: `/runs/${p.run}` }, p.run), number(p.step), when(p.time), p.by,
      p.reason, first && actionButton(`to-${p.version}`, `Use version ${p.version}`, () => rollback(model, after, p.version))];
  }));
}

function history(model) {
  return table(["When", "What", "Round", "Version", "Run", "Why", "By"], model.history.map((e) => [
    when(e.time), e.what, value(e.round), value(e.version),
    e.run ? el("a", { href: `/runs/${e.run}` }, e.run) : "", e.reason, e.by]));
}
