// A table of many rows of which only those in view exist. All have one height, so a place in the list is a place in px.

import { el } from "./dom.js";

const HEIGHT = 41; // px of a row, its border included; parts.css says the same
const SPARE = 8; // rows kept above and below

export class Rows {
  // `columns`: [{name, label, width, num, cell(row)}]; `sort(name)` hears a click on a header.
  constructor(box, { sort, key }) {
    Object.assign(this, { box, sort, key, columns: [], order: [], first: -1, last: -1, drawn: new Map() });
    this.body = el("tbody");
    this.head = el("tr");
    this.group = el("colgroup");
    this.table = el("table", { class: "rows" }, this.group, el("thead", {}, this.head), this.body);
    this.above = el("td");
    this.below = el("td");
    this.body.append(el("tr", { class: "gap", "aria-hidden": "true" }, this.above),
      el("tr", { class: "gap", "aria-hidden": "true" }, this.below));
    box.replaceChildren(this.table);
    box.addEventListener("scroll", () => this.window(), { passive: true });
    new ResizeObserver(() => this.window()).observe(box);
    box.addEventListener("keydown", (event) => this.keys(event));
  }

  setColumns(columns, by, down) {
    this.columns = columns;
    this.group.replaceChildren(...columns.map((c) => el("col", { style: { width: `${c.width}px` } })));
    this.head.replaceChildren(...columns.map((c) => el("th", {
      scope: "col", class: c.num && "num", "aria-sort": c.name === by && (down ? "descending" : "ascending"),
    }, c.plain ? el("span", { class: "hidden" }, c.label) : el("button", {
      type: "button", title: `Sort by ${c.label}`, on: { click: () => this.sort(c.name) },
    }, c.label + (c.name === by ? (down ? " ▾" : " ▴") : "")))));
    this.table.style.setProperty("min-width", `${columns.reduce((sum, c) => sum + c.width, 0)}px`);
    this.above.colSpan = this.below.colSpan = columns.length;
    this.redraw();
  }

  // Show `order` (rows, as `key` and cells know them). `keep`: what is in view stays where it is.
  setOrder(order, keep = false) {
    const top = keep ? this.anchor() : null;
    this.order = order;
    this.table.setAttribute("aria-rowcount", String(order.length + 1));
    this.first = this.last = -1;
    if (top) {
      const place = order.findIndex((row) => this.key(row) === top.key);
      this.space(0, 0);
      if (place >= 0) this.box.scrollTop = place * HEIGHT + top.offset;
    }
    this.redraw();
  }

  // Draw anew the rows among `keys` that are in view: nothing moves.
  update(keys) {
    for (const key of keys) {
      const drawn = this.drawn.get(key);
      if (drawn) this.fill(drawn.node, drawn.row);
    }
  }

  get scrolled() {
    return this.box.scrollTop > 2;
  }

  redraw() {
    for (const { node } of this.drawn.values()) node.remove();
    this.drawn.clear();
    this.first = this.last = -1;
    this.window();
  }

  anchor() {
    const place = Math.floor(this.box.scrollTop / HEIGHT);
    const row = this.order[place];
    return row === undefined ? null : { key: this.key(row), offset: this.box.scrollTop - place * HEIGHT };
  }

  space(first, last) {
    this.above.style.setProperty("height", `${first * HEIGHT}px`);
    this.below.style.setProperty("height", `${Math.max(0, this.order.length - last) * HEIGHT}px`);
  }

  window() {
    const top = Math.floor(this.box.scrollTop / HEIGHT);
    const first = Math.max(0, Math.min(top - SPARE, this.order.length));
    const last = Math.min(this.order.length, top + Math.ceil(this.box.clientHeight / HEIGHT) + SPARE);
    if (first === this.first && last === this.last) return;
    Object.assign(this, { first, last });
    const wanted = new Map(this.order.slice(first, last).map((row, i) => [this.key(row), { row, place: first + i }]));
    for (const [key, { node }] of this.drawn) {
      if (!wanted.has(key)) {
        node.remove();
        this.drawn.delete(key);
      }
    }
    this.space(first, last);
    let after = this.above.parentNode;
    for (const [key, { row, place }] of wanted) {
      const node = this.drawn.get(key)?.node ?? this.fill(el("tr"), row);
      node.setAttribute("aria-rowindex", String(place + 2));
      if (after.nextSibling !== node) after.after(node);
      this.drawn.set(key, { node, row });
      after = node;
    }
  }

  fill(node, row) {
    const focused = node.contains(document.activeElement) && document.activeElement.dataset.part;
    node.replaceChildren(...this.columns.map((c) => el("td", { class: c.num && "num" }, c.cell(row))));
    node.setAttribute("aria-selected", String(Boolean(this.selected?.(row))));
    if (focused) node.querySelector(`[data-part="${focused}"]`)?.focus({ preventScroll: true });
    return node;
  }

  // Up and down move between rows' links, which Tab would take one by one.
  keys(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const node = event.target.closest?.("tr[aria-rowindex]");
    if (!move || !node || !event.target.dataset.part) return;
    const place = Number(node.getAttribute("aria-rowindex")) - 2 + move;
    if (place < 0 || place >= this.order.length) return;
    event.preventDefault();
    const top = place * HEIGHT;
    const inside = this.box.clientHeight - 2 * HEIGHT;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top > this.box.scrollTop + inside) this.box.scrollTop = top - inside;
    this.window();
    const next = this.drawn.get(this.key(this.order[place]))?.node;
    next?.querySelector(`[data-part="${event.target.dataset.part}"]`)?.focus({ preventScroll: true });
  }
}
