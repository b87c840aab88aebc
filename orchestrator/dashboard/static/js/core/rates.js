// The learning rates that a run was told to use: its config, its schedule (gans/schedule.py) and its changes of course.

// {lr_d, lr_g} at each of `steps`; null where the config does not tell them.
export function rates(experiment, changes, steps) {
  const { lr_g: rate, lr_ratio: ratio } = experiment?.gan ?? {};
  if (!scheduled(rate) || typeof ratio !== "number") return null;
  const spans = [{ from: -Infinity, rate, ratio }];
  for (const { step, fields = {} } of changes ?? []) {
    const before = spans.at(-1);
    spans.push({ from: step, rate: fields.lr_g ?? before.rate, ratio: fields.lr_ratio ?? before.ratio });
  }
  const progress = budget(experiment.train ?? {});
  if (!progress && spans.some((span) => typeof span.rate === "object")) return null;
  const told = { lr_d: [], lr_g: [] };
  for (const step of steps) {
    const span = spans.findLast(({ from }) => from < step);
    const now = at(span.rate, progress ? progress(step) : 0);
    told.lr_g.push(now);
    told.lr_d.push(now * span.ratio);
  }
  return told;
}

const scheduled = (rate) => typeof rate === "number" || (typeof rate?.start === "number" && typeof rate.end === "number");

// How much of the budget a step is, where that follows from the step alone.
function budget({ steps, images, seconds, batch }) {
  if (seconds || !(steps || images)) return null;
  const most = Math.min(steps ?? Infinity, images ? images / batch : Infinity);
  return (step) => Math.min(1, step / most);
}

function at(rate, progress) {
  if (typeof rate === "number") return rate;
  return rate.end + 0.5 * (rate.start - rate.end) * (1 + Math.cos(Math.PI * progress));
}
