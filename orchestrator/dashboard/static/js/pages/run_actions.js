// Stop, resume and what people said of its pictures, on a run's page. A stop is said to be done once the server says that nothing drives the run any more.

import { get } from "../core/api.js";
import { actionButton, confirm, told } from "../core/confirm.js";
import { byId, el, replace } from "../core/dom.js";
import { onRuns } from "../core/live.js";
import { poll } from "../core/poll.js";

const id = byId("head").dataset.run;
const RESUMABLE = ["stopped", "preempted", "interrupted", "lost"];
let shown = null;
const ask = poll(`/api/runs/${id}`, ({ state, document: asked, sealed }) => {
  const mine = !asked?.sweep && !sealed;
  const wanted = !mine ? "" : ["running", "queued"].includes(state) ? "stop" : RESUMABLE.includes(state) ? "resume" : "";
  if (wanted === shown) return; // a button stays the one that is being aimed at
  shown = wanted;
  replace(byId("actions"),
    wanted === "stop" && actionButton("stop", "Stop", stop),
    wanted === "resume" && actionButton("resume", "Resume", resume));
}, 10);

let state = null;
onRuns((rows) => {
  const row = rows.find((one) => one.id === id);
  if (!row || row.state === state) return;
  state = row.state;
  ask();
});

async function rated() {
  const { all } = await get(`/api/rate/${id}`);
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  byId("actions").before(el("a", { id: "rated", href: `/rate?run=${id}` }, all
    ? `people were wrong about ${percent(all.error)} of ${all.num} pictures (${percent(all.low)} to ${percent(all.high)})`
    : "Rate"));
}
rated().catch(() => {}); // without it the page is whole

function stop() {
  confirm({
    title: "Stop this run?",
    lines: [`Run ${id} writes a checkpoint of the step it is at and ends. It can be resumed.`,
      "This is done once its process has let go of its devices: up to half a minute."],
    button: "Stop",
    path: `/api/runs/${id}/stop`,
    done: ({ state }) => {
      told(`Stopped: the run is ${state}, and its devices are free.`);
      ask();
    },
  });
}

function resume() {
  confirm({
    title: "Resume this run?",
    lines: ["It goes on from its newest checkpoint, on the machine of this dashboard.", `ganctl train --resume ${id}`],
    button: "Resume",
    path: `/api/runs/${id}/resume`,
    done: ({ pid }) => {
      told(`Resumed, as process ${pid}.`);
      ask();
    },
  });
}
