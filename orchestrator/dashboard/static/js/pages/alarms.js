// What is wrong: rule, evidence, first step, what was done; acknowledge. Which ones are shown is in the address.

import { actionButton, confirm, told } from "../core/confirm.js";
import { byId, el, replace, table } from "../core/dom.js";
import { number, when } from "../core/format.js";
import { onAlarm } from "../core/live.js";
import { poll } from "../core/poll.js";
import * as url from "../core/url.js";

const DEFAULTS = { show: "open" };
let alarms = [];

const ask = poll("/api/alarms", (answer) => {
  alarms = answer.alarms;
  draw();
});
onAlarm(() => ask());
url.onBack(draw);
byId("show").addEventListener("change", (event) => {
  url.write({ show: event.target.value }, DEFAULTS, true);
  draw();
});

function draw() {
  const { show } = url.read(DEFAULTS);
  byId("show").value = show;
  const shown = alarms.filter((alarm) => show === "all" || alarm.open);
  byId("count").textContent = `${alarms.filter((a) => a.open).length} open of ${alarms.length}`;
  if (!shown.length) {
    replace(byId("alarms"), el("p", { class: "note" }, show === "all" ? "No run has raised an alarm." : "Nothing is open."));
    return;
  }
  replace(byId("alarms"),
    table(["Rule", "Run", "First step", "Evidence", "Action taken", "Worth trying", "When", "Seen by"], shown.map(row)));
}

function row(alarm) {
  return [
    el("strong", {}, alarm.rule.replaceAll("-", " ")),
    [el("a", { href: `/runs/${alarm.run}` }, alarm.name ?? alarm.run), " ",
      el("span", { class: "note" }, alarm.run),
      alarm.sweep && [" ", el("a", { href: `/sweeps/${alarm.sweep}` }, "sweep")]],
    number(alarm.step),
    alarm.evidence,
    alarm.action,
    alarm.remedy,
    when(alarm.time),
    seen(alarm),
  ];
}

function seen(alarm) {
  const by = alarm.acknowledged;
  if (by) return `${by.by}, ${when(by.time)}${by.note ? `: ${by.note}` : ""}`;
  return actionButton(`ack-${alarm.id}`, "Acknowledge", () => confirm({
    title: "Acknowledge this alarm?",
    lines: [`${alarm.rule.replaceAll("-", " ")} of run ${alarm.run}`, "It is then no longer open, and everybody sees who did."],
    fields: [{ name: "note", label: "Note" }],
    button: "Acknowledge",
    path: `/api/alarms/${alarm.id}/acknowledge`,
    done: () => {
      told("Acknowledged.");
      ask();
    },
  }));
}
