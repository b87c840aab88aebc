// All models: who is champion, since when, what comes next.

import { byId, el, replace, table } from "../core/dom.js";
import { number, when } from "../core/format.js";
import { poll } from "../core/poll.js";

const HEADS = ["Model", "Version", "Run", "Step", "Since", "By", "Last round", "Next round"];

poll("/api/models", ({ models }) => {
  if (!models.length) {
    replace(byId("models"), el("p", { class: "note" }, "No models yet. Promote a run: ganctl retrain promote NAME RUN"));
    return;
  }
  replace(byId("models"), table(HEADS, models.map(row)));
});

function row(model) {
  const c = model.champion;
  return [
    el("a", { href: `/models/${model.name}`, id: `m-${model.name}` }, model.name),
    c ? number(c.version) : model.problem ?? "nothing promoted",
    c && el("a", { href: `/runs/${c.run}` }, c.run),
    c && number(c.step),
    c && when(c.time),
    c && c.by,
    model.last && `${model.last.round}: ${model.last.state}`,
    next(model),
  ];
}

function next(model) {
  if (!model.retrained) return "not retrained";
  return model.paused ? "paused" : model.next ? when(model.next) : "not scheduled";
}
