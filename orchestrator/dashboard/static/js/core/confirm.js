// What an action asks before it is done, and how it is told that it was. One idempotency key a dialog: pressed twice, or
// sent again after a lost answer, it is done once.

import { newKey, post } from "./api.js";
import { el, toast } from "./dom.js";

export const operates = () => document.querySelector('meta[name="role"]').content === "operator";

// Ask, then post `body(values)` to `path`. `lines` say what will happen; `fields`: [{name, label, value, type}]. `done` is
// told the outcome. The dialog stays open, and says so, until the server has answered.
export function confirm({ title, lines = [], fields = [], button, path, body = (values) => values, done }) {
  const key = newKey();
  const inputs = fields.map((field) => el("input", {
    name: field.name, type: field.type ?? "text", value: field.value ?? "", maxlength: 500, autocomplete: "off",
  }));
  const said = el("p", { class: "note", role: "status" });
  const go = el("button", { type: "submit", class: "danger" }, button);
  const cancel = el("button", {
    type: "button", autofocus: !fields.length, on: { click: () => dialog.close() },
  }, "Cancel");
  const form = el("form", { method: "dialog" },
    el("h2", {}, title),
    lines.map((line) => el("p", {}, line)),
    fields.map((field, i) => el("label", { class: "field" }, field.label, " ", inputs[i])),
    said,
    el("p", { class: "bar" }, go, cancel));
  const dialog = el("dialog", { "aria-label": title }, form);
  form.addEventListener("keydown", (event) => event.repeat && event.key === "Enter" && event.preventDefault());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    said.textContent = "asked; waiting until it is done …";
    const values = Object.fromEntries(fields.map((field, i) => [field.name, inputs[i].value]));
    try {
      const outcome = await post(path, body(values), key);
      dialog.close();
      done(outcome);
    } catch (error) {
      said.textContent = error.message;
      go.disabled = error.status !== 0; // refused: look again; no answer: the same key may be sent again
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

// A button for an action; a viewer has none.
export function actionButton(id, label, open) {
  return operates() ? el("button", { id, type: "button", on: { click: open } }, label) : null;
}

export const told = (text) => toast(text, "good");
