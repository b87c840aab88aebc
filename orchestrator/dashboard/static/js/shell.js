// What every page has: the theme's button, and whether the stream of events is there.

import { byId } from "./core/dom.js";
import { onLink } from "./core/live.js";

const root = document.documentElement;
const ORDER = ["system", "light", "dark"];

function theme() {
  return root.dataset.theme ?? "system";
}

function label() {
  byId("theme").textContent = `theme: ${theme()}`;
}

byId("theme").addEventListener("click", () => {
  const next = ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length];
  if (next === "system") {
    delete root.dataset.theme;
    localStorage.removeItem("ganctl-theme");
  } else {
    root.dataset.theme = next;
    localStorage.setItem("ganctl-theme", next);
  }
  label();
  dispatchEvent(new Event("theme"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
label();

onLink((up) => {
  byId("link").hidden = up;
  byId("link").textContent = up ? "" : "not live: trying again";
});
