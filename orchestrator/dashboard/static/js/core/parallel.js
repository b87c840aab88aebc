// Parallel coordinates on a plain canvas: a line a trial. Dragging along an axis keeps the trials that cross it there. By
// keyboard: left and right choose an axis, up and down move the lower end of what is kept, with Shift the upper one.

import { cleared, redrawn } from "./canvas.js";
import { number } from "./format.js";

const PAD = { left: 60, right: 60, top: 26, bottom: 14 };
const GRIP = 14; // pixels beside an axis where a drag begins on it
const KEY = 0.05; // of an axis, that a key moves an end by

// One axis: where each row crosses it (0 at the bottom, 1 at the top, null for no value), and its ticks.
export function axisOf(name, values) {
  const known = values.filter((v) => v !== null && v !== undefined);
  if (known.some((v) => typeof v !== "number")) {
    const options = [...new Set(known.map(String))].sort();
    const place = new Map(options.map((o, i) => [o, options.length > 1 ? i / (options.length - 1) : 0.5]));
    return { name, at: values.map((v) => place.get(String(v)) ?? null), ticks: options.map((o) => [place.get(o), o]) };
  }
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const log = low > 0 && high / low > 20;
  const scale = log ? Math.log : (v) => v;
  const span = scale(high) - scale(low);
  const at = (v) => (span ? (scale(v) - scale(low)) / span : 0.5);
  const ticks = [0, 0.5, 1].map((t) => {
    const v = scale(low) + t * span;
    return [t, number(log ? Math.exp(v) : v, 3)];
  });
  return { name, at: values.map((v) => (v === null || v === undefined ? null : at(v))), ticks: span ? ticks : [[0.5, number(low, 3)]] };
}

export class Parallel {
  // `changed(brushes)`: {axis: [from, to]} after each drag.
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, axes: [], colours: [], brushes: {}, drag: null, chosen: 0, held: false });
    canvas.addEventListener("pointerdown", (e) => this.press(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", () => this.release());
    canvas.addEventListener("keydown", (e) => this.key(e));
    canvas.addEventListener("keyup", () => this.lift());
    for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, () => this.draw());
    redrawn(canvas, () => this.draw());
  }

  set(axes, colours, brushes) {
    Object.assign(this, { axes, colours, brushes });
    this.draw();
  }

  // Whether row `i` passes through every brush.
  keeps(i) {
    return this.axes.every(({ name, at }) => {
      const brush = this.brushes[name];
      return !brush || (at[i] !== null && at[i] >= brush[0] && at[i] <= brush[1]);
    });
  }

  x = (i) => PAD.left + (this.axes.length > 1 ? i / (this.axes.length - 1) : 0.5) * (this.width - PAD.left - PAD.right);
  y = (t) => this.height - PAD.bottom - t * (this.height - PAD.top - PAD.bottom);
  t = (y) => Math.min(1, Math.max(0, (this.height - PAD.bottom - y) / (this.height - PAD.top - PAD.bottom)));

  press(event) {
    const i = this.axes.findIndex((_, at) => Math.abs(this.x(at) - event.offsetX) < GRIP);
    if (i < 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { name: this.axes[i].name, from: this.t(event.offsetY), to: this.t(event.offsetY) };
  }

  move(event) {
    if (!this.drag) return;
    this.drag.to = this.t(event.offsetY);
    this.brush();
    this.draw();
  }

  release() {
    if (!this.drag) return;
    this.brush();
    this.drag = null;
    this.draw();
    this.changed(this.brushes);
  }

  key(event) {
    const [side, up] = [{ ArrowLeft: -1, ArrowRight: 1 }[event.key], { ArrowDown: -KEY, ArrowUp: KEY }[event.key]];
    if (!this.axes.length || (!side && !up)) return;
    event.preventDefault();
    if (side) this.chosen = (this.chosen + side + this.axes.length) % this.axes.length;
    else this.nudge(this.axes[this.chosen].name, up, event.shiftKey);
    this.draw();
  }

  lift() {
    if (!this.held) return;
    this.held = false;
    this.changed(this.brushes);
  }

  nudge(name, by, upper) {
    const [low, high] = this.brushes[name] ?? [0, 1];
    const kept = upper ? [low, Math.min(1, Math.max(low, high + by))] : [Math.max(0, Math.min(high, low + by)), high];
    if (kept[0] < KEY / 2 && kept[1] > 1 - KEY / 2) delete this.brushes[name];
    else this.brushes[name] = kept;
    this.held = true;
  }

  // A press without a drag takes the axis's brush away.
  brush() {
    const { name, from, to } = this.drag;
    if (Math.abs(from - to) < 0.01) delete this.brushes[name];
    else this.brushes[name] = [Math.min(from, to), Math.max(from, to)];
  }

  draw() {
    const { c, css, width, height } = cleared(this.canvas);
    Object.assign(this, { width, height });
    const rows = this.colours.map((_, i) => i);
    const kept = rows.filter((i) => this.keeps(i));
    const left = new Set(kept);
    c.globalAlpha = 0.12;
    for (const i of rows) if (!left.has(i)) this.line(c, i, css.getPropertyValue("--dim"));
    c.globalAlpha = kept.length > 200 ? 0.35 : 0.75;
    for (const i of kept) this.line(c, i, css.getPropertyValue(this.colours[i]));
    c.globalAlpha = 1;
    const chosen = document.activeElement === this.canvas && this.axes[this.chosen];
    this.axes.forEach((axis, i) => this.axis(c, axis, this.x(i), css, axis === chosen));
  }

  line(c, row, colour) {
    c.strokeStyle = colour;
    c.beginPath();
    let pen = false;
    this.axes.forEach(({ at }, i) => {
      if (at[row] === null) pen = false;
      else if (pen) c.lineTo(this.x(i), this.y(at[row]));
      else {
        c.moveTo(this.x(i), this.y(at[row]));
        pen = true;
      }
    });
    c.stroke();
  }

  axis(c, { name, ticks }, x, css, chosen) {
    c.strokeStyle = css.getPropertyValue("--dim");
    c.beginPath();
    c.moveTo(x, this.y(0));
    c.lineTo(x, this.y(1));
    c.stroke();
    const brush = this.brushes[name];
    if (brush) {
      c.fillStyle = css.getPropertyValue("--focus");
      c.fillRect(x - 3, this.y(brush[1]), 6, this.y(brush[0]) - this.y(brush[1]));
    }
    c.fillStyle = css.getPropertyValue(chosen ? "--focus" : "--text");
    c.font = `${chosen ? "bold " : ""}12px system-ui, sans-serif`;
    c.textAlign = "center";
    c.fillText(name, x, 14);
    c.fillStyle = css.getPropertyValue("--dim");
    const last = x > this.width - PAD.right - 1;
    c.textAlign = last ? "right" : "left";
    c.strokeStyle = css.getPropertyValue("--page"); // lines that pass behind a figure do not strike it through
    c.lineWidth = 4;
    for (const [t, text] of ticks) {
      const place = [text.slice(0, 16), x + (last ? -5 : 5), this.y(t) + 4];
      c.strokeText(...place);
      c.fillText(...place);
    }
    c.lineWidth = 1;
  }
}
