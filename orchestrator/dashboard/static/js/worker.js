// One stream of events for all tabs: HTTP/1.1 allows six connections a host, and a stream would hold one in each tab.

const ports = new Set();
let source = null;
let up = null;
let hello = null; // the last one: a tab that joins hears it, too

function say(message) {
  for (const port of ports) port.postMessage(message);
}

function link(now) {
  if (now !== up) say({ kind: "link", up: now });
  up = now;
}

function open() {
  source = new EventSource("/api/events");
  source.addEventListener("open", () => link(true));
  source.addEventListener("error", () => {
    link(false);
    // The browser tries again by itself unless the answer was no stream at all (signed out, or a restart).
    if (source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(() => ports.size && !source && open(), 3000);
    }
  });
  for (const kind of ["runs", "alarm", "hello"]) {
    source.addEventListener(kind, (event) => {
      const message = { kind, data: JSON.parse(event.data) };
      if (kind === "hello") hello = message;
      say(message);
    });
  }
}

onconnect = (event) => {
  const port = event.ports[0];
  port.onmessage = ({ data }) => {
    if (data === "bye") ports.delete(port);
    if (data === "hello") ports.add(port);
    if (!ports.size && source) {
      source.close();
      source = null;
      up = null;
    } else if (ports.size && !source) open();
    if (data === "hello" && up !== null) {
      port.postMessage({ kind: "link", up });
      if (up && hello) port.postMessage(hello);
    }
  };
  port.start();
};
