// Quality against diversity on a plain canvas: a point a trial, the front as a line.

import { cleared, redrawn } from "./canvas.js";
import { number } from "./format.js";

const PAD = { left: 56, right: 12, top: 10, bottom: 30 };

// points: [{x, y, colour, front, key}]; `picked(key)` when one is clicked.
export class Scatter {
  constructor(canvas, picked) {
    Object.assign(this, { canvas, points: [], names: ["", ""] });
    canvas.addEventListener("click", (event) => {
      const near = this.points.map((p) => [Math.hypot(this.x(p.x) - event.offsetX, this.y(p.y) - event.offsetY), p])
        .sort((a, b) => a[0] - b[0])[0];
      if (near && near[0] < 12) picked(near[1].key);
    });
    redrawn(canvas, () => this.draw());
  }

  set(points, names) {
    Object.assign(this, { points, names });
    this.draw();
  }

  draw() {
    const { c, css, width, height } = cleared(this.canvas);
    Object.assign(this, { width, height });
    this.scales();
    this.frame(c, css);
    const front = this.points.filter((p) => p.front).sort((a, b) => a.x - b.x);
    c.strokeStyle = css.getPropertyValue("--focus");
    c.beginPath();
    front.forEach((p, i) => (i ? c.lineTo(this.x(p.x), this.y(p.y)) : c.moveTo(this.x(p.x), this.y(p.y))));
    c.stroke();
    for (const p of this.points) {
      c.fillStyle = css.getPropertyValue(p.colour);
      c.beginPath();
      c.arc(this.x(p.x), this.y(p.y), p.front ? 6 : 4, 0, 7);
      c.fill();
    }
  }

  scales() {
    const scale = (values, from, to) => {
      const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
      const pad = (high - low) * 0.06 || 1;
      return { low, high, at: (v) => from + ((v - low + pad) / (high - low + 2 * pad)) * (to - from) };
    };
    this.sx = scale(this.points.map((p) => p.x), PAD.left, this.width - PAD.right);
    this.sy = scale(this.points.map((p) => p.y), this.height - PAD.bottom, PAD.top);
    this.x = this.sx.at;
    this.y = this.sy.at;
  }

  frame(c, css) {
    c.strokeStyle = css.getPropertyValue("--line");
    c.strokeRect(PAD.left, PAD.top, this.width - PAD.left - PAD.right, this.height - PAD.top - PAD.bottom);
    c.fillStyle = css.getPropertyValue("--dim");
    c.font = "12px system-ui, sans-serif";
    c.textAlign = "center";
    for (const v of [this.sx.low, this.sx.high]) c.fillText(number(v, 3), this.x(v), this.height - PAD.bottom + 14);
    c.fillText(this.names[0], (PAD.left + this.width) / 2, this.height - 3);
    c.textAlign = "right";
    for (const v of [this.sy.low, this.sy.high]) c.fillText(number(v, 3), PAD.left - 5, this.y(v) + 4);
    c.fillText(this.names[1], PAD.left - 5, this.height / 2);
  }
}
