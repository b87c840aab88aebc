// Numbers and times as people read them. Nothing known is an en dash.

export const NONE = "–";

export function number(value, digits = 4) {
  if (value === null || value === undefined || value === "") return NONE;
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(digits)));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

// Local time, to the second: 2026-11-25 20:15:09. Takes Unix seconds or an ISO string.
export function when(time) {
  if (time === null || time === undefined || time === "") return NONE;
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  if (Number.isNaN(date.getTime())) return String(time);
  const two = (n) => String(n).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function value(any) {
  if (any === null || any === undefined) return NONE;
  if (typeof any === "number") return number(any);
  return typeof any === "object" ? JSON.stringify(any) : String(any);
}

// A verdict's evidence in one line.
export function evidence(items) {
  if (!items) return "";
  if (!Array.isArray(items)) return value(items);
  return items.map((e) => {
    if (typeof e !== "object" || !("signal" in e)) return value(e);
    const limit = e.threshold === undefined ? "" : ` vs ${number(e.threshold, 3)} over ${e.window} ticks at step ${e.step}`;
    return `${e.signal} ${number(e.value, 3)}${limit}`;
  }).join("; ");
}

// Which of the verdict colours of parts.css: every verdict also stands there as text.
export function tone(word) {
  const text = String(word ?? "");
  if (/^(healthy|completed|up|promoted)$/.test(text)) return "good";
  if (/running|queued|pruned|paused|stopped|preempted|oscillation|partial/.test(text)) return "warn";
  return text && text !== NONE && text !== "not started" ? "bad" : "";
}
