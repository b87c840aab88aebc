// The server's /api. The browser keeps answers with their ETags: an unchanged one costs a 304.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The JSON at `path`. Throws ApiError with the server's own line; status 0 where no server answered.
export const get = (path, options = {}) => ask(path, { headers: { Accept: "application/json" }, ...options });

// Post `body` as JSON. `key` makes the request idempotent: sent twice it is done once.
export function post(path, body = {}, key = newKey()) {
  const headers = {
    "Content-Type": "application/json",
    "X-CSRF-Token": document.querySelector('meta[name="csrf"]').content,
    "Idempotency-Key": key,
  };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body) });
}

export const newKey = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

export const query = (values) => new URLSearchParams(Object.entries(values).filter(([, v]) => v !== "")).toString();

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-cache", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the dashboard's server does not answer");
  }
  if (answer.status === 401) {
    location.assign(`/login?${query({ next: location.pathname + location.search })}`);
    throw new ApiError(401, "signed out");
  }
  const text = await answer.text();
  let told;
  try {
    told = text ? JSON.parse(text) : {};
  } catch {
    told = { error: text.slice(0, 200) };
  }
  if (!answer.ok) throw new ApiError(answer.status, told.error || `the server answers ${answer.status}`);
  return told;
}
