// Asks the server for a document every few seconds, and shows it where it is another one. An unchanged one costs a 304.

import { get } from "./api.js";
import { banner } from "./dom.js";

// `show` is called with the document; the element with the focus keeps it where its id comes back. Returns what asks
// at once.
export function poll(path, show, seconds = 5) {
  let last = null;
  let asking = false;
  async function ask() {
    if (asking) return;
    asking = true;
    try {
      const told = await get(path);
      banner("");
      const text = JSON.stringify(told);
      if (text !== last) refresh(told, show);
      last = text;
    } catch (error) {
      banner(error.message);
    } finally {
      asking = false;
    }
  }
  setInterval(() => document.hidden || ask(), seconds * 1000);
  document.addEventListener("visibilitychange", () => document.hidden || ask());
  ask();
  return ask;
}

// Between a button's press and its release nothing is drawn anew: the release would miss it.
let pressed = false;
const waiting = [];
addEventListener("pointerdown", () => (pressed = true), true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(released), true);

function released() {
  pressed = false;
  for (const draw of waiting.splice(0)) draw();
}

function refresh(told, show) {
  if (pressed) {
    waiting.push(() => refresh(told, show));
    return;
  }
  const focused = document.activeElement?.id;
  show(told);
  if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus({ preventScroll: true });
}
