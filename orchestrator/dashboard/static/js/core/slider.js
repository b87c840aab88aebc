// The samples of a run, step by step: a slider, and pictures that are there before they are asked for.

import { byId } from "./dom.js";
import { number } from "./format.js";

const AHEAD = 6; // pictures fetched on each side of the one that is shown
const KEPT = 200; // pictures kept decoded

export class Slider {
  // `onStep(step)` hears which step the person chose.
  constructor(source, onStep) {
    Object.assign(this, { source, onStep, steps: [], place: -1, pictures: new Map() });
    this.input = byId("slider");
    this.frame = byId("sample").parentNode;
    this.input.addEventListener("input", () => {
      this.show(Number(this.input.value));
      this.onStep(this.step);
    });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  get step() {
    return this.steps[this.place];
  }

  get atEnd() {
    return this.place === this.steps.length - 1;
  }

  // The stored steps. Who looks at the newest goes on to see the newest; who looks at another one stays.
  setSteps(steps, step) {
    const follow = this.place < 0 || this.atEnd;
    const here = this.step;
    this.steps = steps;
    this.input.max = String(Math.max(0, steps.length - 1));
    this.input.disabled = !steps.length;
    byId("no-sample").hidden = steps.length > 0;
    if (!steps.length) return;
    if (step !== undefined) this.near(step);
    else if (follow) this.show(steps.length - 1);
    else this.near(here);
  }

  // The stored step nearest to `step`.
  near(step) {
    if (!this.steps.length) return;
    let low = 0;
    let high = this.steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.steps[middle] <= step) low = middle;
      else high = middle;
    }
    this.show(step - this.steps[low] <= this.steps[high] - step ? low : high);
  }

  show(place) {
    this.place = place;
    this.input.value = String(place);
    const text = `step ${number(this.step)} · ${place + 1} of ${this.steps.length}`;
    this.input.setAttribute("aria-valuetext", text);
    byId("at").textContent = text;
    this.put(this.picture(place));
    for (let off = 1; off <= AHEAD; off += 1) {
      for (const next of [place + off, place - off]) if (next in this.steps) this.picture(next);
    }
  }

  // Swap the picture once it is decoded, so that the frame is never blank; what came too late is left.
  async put(picture) {
    try {
      if (!picture.complete) await picture.decode();
    } catch {
      byId("no-sample").hidden = false;
      byId("no-sample").textContent = `The picture of step ${picture.dataset.step} cannot be had now.`;
      this.pictures.delete(Number(picture.dataset.step));
      return;
    }
    if (Number(picture.dataset.step) !== this.step || picture.isConnected) return;
    byId("no-sample").hidden = true;
    picture.classList.toggle("tiny", picture.naturalWidth < this.frame.clientWidth);
    this.frame.querySelector("img").replaceWith(picture);
  }

  picture(place) {
    const step = this.steps[place];
    let picture = this.pictures.get(step);
    if (!picture) {
      picture = new Image();
      picture.decoding = "sync";
      picture.id = "sample";
      picture.alt = `Samples of step ${step}`;
      picture.dataset.step = String(step);
      picture.src = this.source(step);
      this.pictures.set(step, picture);
      if (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
    }
    return picture;
  }

  key(event) {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const busy = event.target.closest("input, select, textarea, [contenteditable], table, .log");
    if (!move || busy || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const next = this.place + move;
    if (!(next in this.steps)) return;
    event.preventDefault();
    this.show(next);
    this.onStep(this.step);
  }
}
