// All sweeps, the newest first.

import { byId, el, renew, replace } from "../core/dom.js";
import { duration, number, when } from "../core/format.js";
import { poll } from "../core/poll.js";

poll("/api/sweeps", ({ sweeps }) => {
  if (!sweeps.length) {
    replace(byId("sweeps"), el("p", { class: "note" }, "No sweeps yet. Begin one: ganctl sweep start RECIPE"));
    return;
  }
  renew(byId("sweeps"), ["Sweep", "Name", "State", "Begun", "Trials", "How they ended", "Best", "Device time"],
    sweeps.map((s) => [
      el("a", { href: `/sweeps/${s.id}`, id: `s-${s.id}` }, s.id), s.name ?? "", s.state, when(s.created),
      number(s.trials), Object.entries(s.ends).map(([end, n]) => `${n} ${end}`).join(", "),
      s.best === null ? "" : `${s.objectives[0]} ${number(s.best)}`, duration(s.device_seconds)]), sweeps.map((s) => s.id));
});
