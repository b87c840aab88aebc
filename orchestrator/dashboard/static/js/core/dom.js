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

// The same in `node`; `keys` tell its rows apart. What says what it said stays the very node that it was, so that a
// selection in it and the scroll of `node` hold. What cells listen to must not depend on more than they say.
export function renew(node, heads, rows, keys) {
  const fresh = table(heads, rows);
  [...fresh.tBodies[0].rows].forEach((row, i) => (row.dataset.key = keys[i]));
  const old = node.firstElementChild;
  if (old?.tagName !== "TABLE") return replace(node, fresh);
  if (!old.tHead.isEqualNode(fresh.tHead)) {
    const focused = old.tHead.contains(document.activeElement) && document.activeElement.id;
    old.tHead.replaceWith(fresh.tHead);
    if (focused) byId(focused)?.focus({ preventScroll: true });
  }
  const [body] = old.tBodies;
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = [...fresh.tBodies[0].rows].map((row) => patched(known.get(row.dataset.key), row));
  const stay = new Set(wanted);
  for (const row of [...body.rows]) if (!stay.has(row)) row.remove();
  wanted.forEach((row, i) => body.rows[i] === row || body.insertBefore(row, body.rows[i] ?? null));
}

// `row` with those cells of `fresh` that are others; `fresh` itself where there is none.
function patched(row, fresh) {
  if (!row) return fresh;
  [...fresh.cells].forEach((cell, i) => row.cells[i].isEqualNode(cell) || row.cells[i].replaceWith(cell));
  return row;
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
