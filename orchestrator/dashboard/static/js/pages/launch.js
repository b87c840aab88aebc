// A form made from a recipe's fields. Only what differs from the recipe is sent, and the command line says the same.
// Recipe and changes are in the address.

import { get } from "../core/api.js";
import { actionButton, confirm, told } from "../core/confirm.js";
import { banner, byId, el, replace } from "../core/dom.js";
import { number } from "../core/format.js";

const RESERVED = ["recipe", "on"];
let form = null;
let changes = {};

const start = new URLSearchParams(location.search);
byId("recipe").addEventListener("change", (event) => {
  changes = {};
  open(event.target.value);
});
byId("on").addEventListener("change", tell);
byId("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(command());
  told("Copied.");
});
addEventListener("popstate", () => begin(new URLSearchParams(location.search)));
begin(start);

function begin(given) {
  changes = Object.fromEntries([...given].filter(([name]) => !RESERVED.includes(name)));
  open(given.get("recipe") ?? "", given.get("on") ?? "");
}

async function open(recipe, on = byId("on").value, tries = 3) {
  byId("summary").textContent = "Reading the recipe; the first time it takes some seconds …";
  try {
    form = await get(`/api/launch/schema?${new URLSearchParams(recipe ? { recipe } : {})}`);
  } catch (error) {
    if (error.status === 503 && tries > 1) { // a busy machine takes longer; the server goes on reading meanwhile
      setTimeout(() => open(recipe, on, tries - 1), 3000);
      return;
    }
    byId("summary").textContent = "";
    banner(error.message);
    return;
  }
  banner("");
  replace(byId("recipe"), el("option", { value: "" }, "choose"),
    form.recipes.map((r) => el("option", { value: r.name }, r.name)));
  byId("recipe").value = recipe;
  replace(byId("on"), el("option", { value: "" }, "as the recipe says"), form.places.map((p) => el("option", { value: p }, p)));
  byId("on").value = form.places.includes(on) ? on : "";
  byId("summary").textContent = form.summary ?? "Choose a recipe.";
  replace(byId("actions"), form.fields && actionButton("launch", "Launch", ask));
  replace(byId("fields"), form.fields ? sections() : []);
  tell();
}

function sections() {
  const names = [...new Set(form.fields.map((f) => f.path.split(".")[0]))];
  return names.map((name) => el("details", { open: name !== "health" && name !== "scale" },
    el("summary", {}, el("h2", {}, name)),
    form.about[name] && el("p", { class: "note" }, form.about[name]),
    el("div", { class: "form" }, form.fields.filter((f) => f.path.split(".")[0] === name).map(field))));
}

// How a value is written on the command line: JSON, which is YAML too.
const written = (value) => (value === null ? "null" : typeof value === "string" ? value : JSON.stringify(value));

function field(f) {
  const text = written(f.value);
  const id = `f-${f.path}`;
  const choices = f.kind === "boolean" ? ["true", "false"] : f.kind === "choice" ? f.choices.map(String) : null;
  const input = choices
    ? el("select", { id }, choices.map((c) => el("option", { value: c }, c)), f.optional && el("option", { value: "null" }, "null"))
    : el("input", { id, type: "text", inputmode: f.kind === "text" ? "text" : "decimal", maxlength: 1000 });
  input.value = changes[f.path] ?? text;
  const label = el("label", { title: bounds(f), class: f.path in changes ? "changed" : "" },
    f.path.split(".").slice(1).join(".") || f.path, input);
  input.addEventListener("input", () => {
    if (input.value === text) delete changes[f.path];
    else changes[f.path] = input.value;
    label.classList.toggle("changed", f.path in changes);
    tell();
  });
  return label;
}

const bounds = (f) => [f.kind, f.minimum !== undefined && `from ${f.minimum}`, f.exclusiveMinimum !== undefined && `above ${f.exclusiveMinimum}`,
  f.maximum !== undefined && `to ${f.maximum}`, f.doc].filter(Boolean).join(", ");

const quoted = (word) => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function command() {
  const on = byId("on").value;
  const words = ["train", byId("recipe").value, ...Object.entries(changes).map(([k, v]) => `${k}=${v}`)];
  const where = on === "cluster" ? ["--on", form.cluster] : on ? ["--on", on] : [];
  return ["ganctl", ...words, ...where, "--store", form.store].map(quoted).join(" ");
}

function tell() {
  const recipe = byId("recipe").value;
  byId("command").textContent = recipe ? command() : "";
  byId("estimate").textContent = recipe ? estimate() : "";
  const on = byId("on").value;
  history.replaceState(null, "", `${location.pathname}?${new URLSearchParams({ ...(recipe && { recipe }), ...(on && { on }), ...changes })}`);
}

function estimate() {
  if (!form.pace) return "No earlier run tells how long it takes.";
  const at = (path) => Number(changes[path] ?? form.fields.find((f) => f.path === path)?.value);
  const steps = at("train.steps");
  if (!steps) return "It ends by another budget than steps: no estimate.";
  const hours = (form.pace.seconds_per_step * steps * (at("scale.workers") || 1)) / 3600;
  return `About ${number(hours, 2)} device-hours, by ${form.pace.runs} earlier runs of the same ${form.pace.like}.`;
}

function ask() {
  const on = byId("on").value;
  confirm({
    title: `Launch ${byId("recipe").value}?`,
    lines: [estimate(), command()],
    button: "Launch",
    path: "/api/launch",
    body: () => ({ recipe: byId("recipe").value, overrides: { ...changes }, on }),
    done: ({ run }) => location.assign(`/runs/${run}`),
  });
}
