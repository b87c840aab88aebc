// View state lives in the page's address, so that back, reload and sharing work. Defaults are left out of it.

export function read(defaults) {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, given.get(name) ?? value]));
}

// Put `state` into the address. `push` makes a step that the back button takes back; else the entry is replaced.
export function write(state, defaults, push = false) {
  const next = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) if (value !== defaults[name]) next.set(name, value);
  const search = next.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  const url = location.pathname + (search ? `?${search}` : "");
  if (url === location.pathname + location.search) return;
  history[push ? "pushState" : "replaceState"](null, "", url);
}

export const onBack = (hear) => addEventListener("popstate", hear);
