// Curves: uPlot with our colours, min/max bands, health bands, and one cursor for all charts of a page.

import uPlot from "/static/vendor/uplot/uPlot.esm.js";
import { el } from "./dom.js";
import { number, NONE } from "./format.js";

const PALETTE = 8;
const HEIGHT = 170;

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const paint = (index) => colour(`c${index % PALETTE}`);
// Beyond the palette's colours lines differ by their dashes too.
export const dash = (index) => [[], [8, 4], [2, 3]][Math.floor(index / PALETTE) % 3];

// The charts of a page: they share the cursor, the zoom and the verdicts drawn behind the curves.
export class Board {
  constructor({ onStep = () => {} } = {}) {
    this.charts = [];
    this.verdicts = [];
    this.changes = [];
    this.log = false;
    this.onStep = onStep;
    this.range = null; // [from, to] that is zoomed in on; null is the whole run
    this.silent = false;
    addEventListener("theme", () => this.charts.forEach((chart) => chart.rebuild()));
    new ResizeObserver(() => this.charts.forEach((chart) => chart.fit())).observe(document.body);
  }

  add(node, title, options = {}) {
    const chart = new Chart(this, node, title, options);
    this.charts.push(chart);
    return chart;
  }

  // Put every cursor at `step`, without telling `onStep`.
  point(step) {
    this.silent = true;
    for (const { plot } of this.charts) {
      if (plot && plot.data[0].length) plot.setCursor({ left: plot.valToPos(step, "x"), top: plot.cursor.top ?? 10 });
    }
    this.silent = false;
  }

  zoom(range) {
    this.range = range;
    this.silent = true;
    for (const { plot } of this.charts) if (plot) plot.setScale("x", this.span(plot));
    this.silent = false;
  }

  span(plot) {
    const steps = plot.data[0];
    const [min, max] = this.range ?? [steps[0] ?? 0, steps.at(-1) ?? 1];
    return { min, max: max > min ? max : min + 1 };
  }

  moved(from, step) {
    if (this.silent) return;
    this.silent = true;
    for (const { plot } of this.charts) {
      if (plot && plot !== from) plot.setCursor({ left: plot.valToPos(step, "x"), top: 10 });
    }
    this.silent = false;
    this.onStep(step);
  }

  setLog(log) {
    this.log = log;
    this.charts.forEach((chart) => chart.rebuild());
  }
}

class Chart {
  constructor(board, node, title, { height = HEIGHT, legend = true } = {}) {
    Object.assign(this, { board, title, height, legend, plot: null, steps: [], lines: [] });
    this.body = el("div", {});
    this.node = el("figure", { class: "chart", style: { margin: "0" }, "aria-label": title }, el("h3", {}, title), this.body);
    node.append(this.node);
  }

  // lines: [{label, last, min?, max?, stroke?, dash?, width?}] over `steps`. The same labels again keep the view.
  draw(steps, given) {
    const lines = given.map(plain);
    const same = this.plot && lines.length === this.lines.length
      && lines.every((l, i) => l.label === this.lines[i].label && !l.min === !this.lines[i].min);
    Object.assign(this, { steps, lines });
    if (!same) return this.rebuild();
    this.plot.setData(this.data(), false);
    this.plot.setScale("x", this.board.span(this.plot));
  }

  data() {
    return [this.steps, ...this.lines.flatMap((l) => (l.min ? [l.last, l.min, l.max] : [l.last]))];
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.lines.length) return;
    this.plot = new uPlot(this.options(), this.data(), this.body);
    this.plot.setScale("x", this.board.span(this.plot));
  }

  fit() {
    const width = this.body.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  options() {
    const axis = { stroke: colour("dim"), grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid") } };
    const series = [{ label: "step", value: (_, v) => number(v) }];
    const bands = [];
    this.lines.forEach((line, i) => series.push(...this.one(line, i, series.length, bands)));
    return {
      width: this.body.clientWidth || 400, height: this.height, series, bands,
      scales: { x: { time: false }, y: this.vertical() },
      axes: [{ ...axis, size: 30 }, { ...axis, size: 64, values: (_, all) => all.map((v) => (v === null ? "" : number(v, 3))) }],
      legend: { show: this.legend, live: true },
      cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 5 } },
      hooks: {
        drawClear: [(plot) => this.background(plot)],
        setCursor: [(plot) => plot.cursor.idx !== null && plot.cursor.left >= 0
          && this.board.moved(plot, plot.data[0][plot.cursor.idx])],
        setSelect: [(plot) => this.selected(plot)],
      },
    };
  }

  // A logarithm where all are above zero, else the inverse hyperbolic sine, which knows zero and below.
  distribution() {
    if (!this.board.log) return 1;
    return this.lines.every((l) => (l.min ?? l.last).every((v) => v === null || v > 0)) ? 3 : 4;
  }

  vertical() {
    const distr = this.distribution();
    return distr === 1 ? { distr, range: (_, min, max) => around(min, max) } : { distr };
  }

  one(line, index, place, bands) {
    const stroke = line.stroke ?? paint(index);
    const spanGaps = true;
    const value = (_, v) => (v === null || v === undefined ? NONE : number(v));
    const few = line.last.reduce((n, v) => n + (v !== null), 0) < 60;
    const base = { label: line.label, stroke, width: line.width ?? 1.5, dash: line.dash ?? dash(index), spanGaps, value };
    base.points = { show: few && !line.bare, size: 4, fill: stroke };
    if (!line.min) return [base];
    const edge = { label: line.label, stroke: "transparent", width: 0, points: { show: false }, spanGaps, class: "edge" };
    bands.push({ series: [place + 2, place + 1], fill: `${stroke}40` });
    return [base, { ...edge }, { ...edge }];
  }

  selected(plot) {
    if (plot.select.width < 4) return;
    const { left, width } = plot.select;
    this.board.zoom([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  // Spells of ill health, hatched so that they do not depend on colour, and changes of course as dashed lines.
  background(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const spell of this.board.verdicts) {
      if (spell.kind === "healthy") continue;
      const from = plot.valToPos(spell.from, "x", true);
      const to = Math.max(plot.valToPos(spell.to, "x", true), from + 4);
      hatch(ctx, from, to, bbox, /partial|oscillation/.test(spell.kind) ? colour("warn") : colour("bad"));
    }
    ctx.strokeStyle = colour("dim");
    ctx.setLineDash([4, 4]);
    for (const { step } of this.board.changes) {
      const x = Math.round(plot.valToPos(step, "x", true)) + 0.5;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }
}

// A line whose buckets hold one value each has no band.
function plain(line) {
  const flat = line.min?.every((v, i) => v === line.max[i]);
  return flat ? { ...line, min: undefined, max: undefined } : line;
}

// The range of an axis; of a line that is flat, a little around it.
function around(min, max) {
  if (min === null || min === undefined) return [0, 1];
  if (min !== max) return uPlot.rangeNum(min, max, 0.1, true);
  const room = Math.abs(min) * 0.1 || 1;
  return [min === 0 ? 0 : min - room, max + room];
}

function hatch(ctx, from, to, bbox, stroke) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(from, bbox.top, to - from, bbox.height);
  ctx.clip();
  ctx.globalAlpha = 0.14;
  ctx.fillStyle = stroke;
  ctx.fillRect(from, bbox.top, to - from, bbox.height);
  ctx.globalAlpha = 0.35;
  ctx.strokeStyle = stroke;
  const left = Math.max(from, bbox.left);
  const right = Math.min(to, bbox.left + bbox.width);
  for (let x = left - bbox.height; x < right; x += 10) {
    ctx.beginPath();
    ctx.moveTo(x, bbox.top + bbox.height);
    ctx.lineTo(x + bbox.height, bbox.top);
    ctx.stroke();
  }
  ctx.restore();
}
