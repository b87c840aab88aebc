// Nodes and their devices, coloured by run; jobs; what waits for what. Where Ray or Prefect is down it says so, and what
// the store knows is shown.

import { byId, el, replace, table } from "../core/dom.js";
import { number, tone, when } from "../core/format.js";
import { poll } from "../core/poll.js";

const COLOURS = 8; // --c0 to --c7; the text says which run it is, too

poll("/api/cluster", (told) => {
  const { ray, prefect } = told;
  byId("ray").textContent = `Ray: ${ray.state}`;
  byId("ray").className = `tag ${ray.state === "up" ? "good" : ray.state === "down" ? "bad" : ""}`;
  byId("why").textContent = ray.state === "up" ? "" : ray.state === "down"
    ? `Ray is down: ${ray.why}. What follows is what the store knows.` : "This dashboard was told of no Ray cluster.";
  const colour = colours(told.nodes);
  replace(byId("nodes"), told.nodes.map((node) => nodeOf(node, colour)));
  replace(byId("runs"), told.runs.length ? table(["Run", "Name", "State", "Step", "Sweep", "Host", "Process"],
    told.runs.map((run) => [runLink(run.id), run.name, el("span", { class: `tag ${tone(run.state)}` }, run.state), number(run.step),
      run.sweep && el("a", { href: `/sweeps/${run.sweep}` }, run.sweep), run.host, run.pid])) : "None.");
  replace(byId("waiting"), told.waiting.length ? table(["How many", "Each waits for"],
    told.waiting.map(({ num, bundles }) => [num, bundles.map(resources).join(" + ")])) : ray.state === "up" ? "Nothing." : "Not known.");
  replace(byId("next"), prefect.state !== "up" ? el("p", { class: "note" }, `Prefect is ${prefect.state}. ${prefect.why}`)
    : prefect.runs.length ? table(["Flow run", "Retraining", "State", "When"], prefect.runs.map((run) => [
      run.name, run.retraining && el("a", { href: `/models/${run.retraining}` }, run.retraining), run.state, when(run.next)])) : "None.");
  replace(byId("jobs"), told.jobs.length ? table(["Job", "State", "Begun", "Ended", "Command", "Message"], told.jobs.map((job) => [
    job.id, job.state, when(job.begun), when(job.ended), el("code", {}, job.entrypoint), job.message])) : ray.state === "up" ? "None." : "Not known.");
}, 3);

const runLink = (id) => el("a", { href: `/runs/${id}` }, id);
const resources = (bundle) => Object.entries(bundle).map(([name, n]) => `${number(n)} ${name}`).join(", ");
const owner = (holder) => holder.run ?? holder.sweep ?? holder.job;

function colours(nodes) {
  const owners = [...new Set(nodes.flatMap((n) => n.devices.flatMap((d) => d.holders.map(owner))))];
  return (id) => `var(--c${owners.indexOf(id) % COLOURS})`;
}

function nodeOf(node, colour) {
  const free = node.devices.filter((device) => !device.holders.length).length;
  return el("section", { class: "node", "aria-label": `node ${node.name}` },
    el("h2", {}, node.name ?? node.id, " ",
      el("span", { class: "note" }, [node.head && "head", node.address, node.state,
        node.cpu !== null && `CPU ${number(node.cpu, 3)} %`, `${free} of ${node.devices.length} devices free`].filter(Boolean).join(", "))),
    el("div", { class: "devices" }, node.devices.map((device) => deviceOf(device, node, colour))));
}

function deviceOf(device, node, colour) {
  const gpu = device.kind === "GPU" && node.gpus.find((g) => String(g.index) === device.slot);
  const style = device.holders.length ? { "border-color": colour(owner(device.holders[0])) } : {};
  return el("div", { class: "device", style }, `${device.kind} ${device.slot}: `,
    device.holders.length ? device.holders.map((h) => [
      h.run ? runLink(h.run) : h.sweep ? el("a", { href: `/sweeps/${h.sweep}` }, `sweep ${h.sweep}`) : `job ${h.job}`,
      h.run && h.sweep ? [" of ", el("a", { href: `/sweeps/${h.sweep}` }, "a sweep")] : "",
      h.share < 1 ? ` (${number(100 * h.share, 3)} %)` : "", " "]) : "free",
    gpu && el("div", { class: "note" }, `${gpu.name}, busy ${number(gpu.busy)} %, ${number(gpu.used)} of ${number(gpu.total)} MB`));
}
