// Making elements. Text only: nothing here, or anywhere, parses HTML, so a run's name is never more than text.

export const byId = (id) => document.getElementById(id);

// el("a", {href, class, on: {click}, style: {width: "3px"}, hidden: true}, "text", node, [nodes])
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
  append(node, children);
  return node;
}

export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

function set(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "on") for (const [event, hear] of Object.entries(value)) node.addEventListener(event, hear);
  else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
  else if (name === "data") Object.assign(node.dataset, value);
  else if (name === "href") node.setAttribute("href", local(value));
  else if (name in node && typeof value === "boolean") node[name] = value;
  else node.setAttribute(name, value === true ? "" : String(value));
}

// Links lead to pages of ours: never to javascript: or to another host.
function local(href) {
  const url = new URL(href, location.href);
  return url.origin === location.origin ? url.pathname + url.search + url.hash : "#";
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

// A table of `rows` (arrays of cells: text or nodes) under `heads`.
export function table(heads, rows, caption = "") {
  return el("table", {},
    caption && el("caption", {}, caption),
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))));
}

export function toast(text, kind = "") {
  const note = el("p", { class: `toast ${kind}` }, text);
  byId("toasts").append(note);
  setTimeout(() => note.remove(), 6000);
}

// What the page cannot show now, said at its top; empty text takes it away.
export function banner(text) {
  const node = byId("banner");
  node.hidden = !text;
  node.textContent = text;
}
