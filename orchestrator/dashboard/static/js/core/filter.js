// The filter of tables: `fid<20 family:wgan verdict:collapse -state:failed "two words"`.
//
// field:text holds where the field has the text in it (of a number: equals it); = and != compare whole; < <= > >=
// compare numbers. A word alone is looked for in the name, id, family and sweep. A minus in front turns it around.

const TERM = /^([a-z_]+)(<=|>=|!=|<|>|=|:)(.*)$/i;
const ANYWHERE = ["name", "id", "family", "sweep"];

// {test(row) -> bool, error}: rows are asked by `at(field, row)`. A text that is wrong holds nothing back.
export function filter(text, fields, at) {
  const tests = [];
  for (const raw of text.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? []) {
    const turned = raw.length > 1 && raw.startsWith("-");
    const term = (turned ? raw.slice(1) : raw).replaceAll('"', "");
    const made = term && one(term, fields, at);
    if (made && made.error) return { test: () => true, error: made.error };
    if (made) tests.push(turned ? (row) => !made(row) : made);
  }
  return { test: (row) => tests.every((test) => test(row)), error: "" };
}

function one(term, fields, at) {
  const match = TERM.exec(term);
  if (!match) {
    const word = term.toLowerCase();
    return (row) => ANYWHERE.some((field) => lower(at(field, row)).includes(word));
  }
  const [, field, operator, wanted] = match;
  if (!fields.includes(field)) return { error: `no field ${field}; fields: ${fields.join(", ")}` };
  if (wanted === "") return () => true; // still being typed
  if ("<>".includes(operator[0])) return compared(field, operator, wanted, at);
  const want = wanted.toLowerCase();
  const same = (have) => lower(have) === want || (typeof have === "number" && have === Number(want));
  if (operator === "=") return (row) => same(at(field, row));
  if (operator === "!=") return (row) => !same(at(field, row));
  return (row) => {
    const have = at(field, row);
    return typeof have === "number" ? same(have) : lower(have).includes(want);
  };
}

function compared(field, operator, wanted, at) {
  const limit = Number(wanted);
  if (Number.isNaN(limit)) return { error: `${field}${operator} needs a number, not ${wanted}` };
  const holds = {
    "<": (v) => v < limit, "<=": (v) => v <= limit, ">": (v) => v > limit, ">=": (v) => v >= limit,
  }[operator];
  return (row) => {
    const have = at(field, row);
    return typeof have === "number" && holds(have);
  };
}

function lower(any) {
  return any === null || any === undefined ? "" : String(any).toLowerCase();
}
