// What changes on the server, as it changes. One SharedWorker for all tabs; where there is none, a stream of one's own.

const hearers = { runs: new Set(), alarm: new Set(), hello: new Set(), link: new Set() };
let started = false;
let up = null;

export const onRuns = (hear) => listen("runs", (data) => hear(data.rows));
export const onAlarm = (hear) => listen("alarm", hear);
// After each connection, the first one included: what was missed meanwhile is read anew.
export const onHello = (hear) => listen("hello", hear);
export const onLink = (hear) => listen("link", hear);

// Returns what has `work` done soon: once every `ms` at most, and that often, however often it is asked for.
export function paced(work, ms) {
  let due = 0;
  let busy = false;
  return function ask() {
    due ||= setTimeout(async () => {
      due = 0;
      if (busy) return ask();
      busy = true;
      await work();
      busy = false;
      return null;
    }, ms);
  };
}

function listen(kind, hear) {
  hearers[kind].add(hear);
  if (kind === "link" && up !== null) hear(up);
  if (!started) start();
  return () => hearers[kind].delete(hear);
}

function tell(message) {
  if (message.kind === "link") up = message.up;
  const told = message.kind === "link" ? message.up : message.data;
  for (const hear of hearers[message.kind] ?? []) hear(told);
}

function start() {
  started = true;
  if (typeof SharedWorker === "undefined") return alone();
  const { port } = new SharedWorker("/static/js/worker.js", { name: "ganctl" });
  port.onmessage = (event) => tell(event.data);
  port.start();
  port.postMessage("hello");
  addEventListener("pagehide", () => port.postMessage("bye"));
  addEventListener("pageshow", (event) => event.persisted && port.postMessage("hello"));
}

function alone() {
  const source = new EventSource("/api/events");
  source.addEventListener("open", () => tell({ kind: "link", up: true }));
  source.addEventListener("error", () => tell({ kind: "link", up: false }));
  for (const kind of ["runs", "alarm", "hello"]) {
    source.addEventListener(kind, (event) => tell({ kind, data: JSON.parse(event.data) }));
  }
  addEventListener("pagehide", () => source.close());
}
