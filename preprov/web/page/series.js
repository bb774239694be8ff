// From what the API says to lines over time. All instants are milliseconds, all lines are steps.

const SILENT_MS = 15 * 60e3; // nobody looked: a gap, not a line

// One row a pass: {at, until, ready, used, waiting, target, nodes}; each stands until the next, the last one until now.
export function rowsOf(points, now) {
  return points.map((p, i) => {
    const at = Date.parse(p.at);
    const next = i + 1 < points.length ? Date.parse(points[i + 1].at) : now;
    const until = next - at > SILENT_MS ? at + 60e3 : next;
    return { at, until, ready: p.allocatable, used: p.used, waiting: p.waiting, target: p.target, nodes: p.nodes };
  });
}

// Steps of a forecast: {at, until, low, mid, high}, with the quantiles that stand for each.
export function bandOf(forecast, from, to) {
  if (!forecast) return { steps: [], names: ["", ""] };
  const q = forecast.quantiles;
  const nearest = (wanted) => q.reduce((best, x, i) => (Math.abs(x - wanted) < Math.abs(q[best] - wanted) ? i : best), 0);
  const [low, mid, high] = [nearest(0.1), nearest(0.5), nearest(0.9)];
  const steps = forecast.points.map((p) => {
    const at = Date.parse(p.ts);
    return { at, until: at + forecast.step_seconds * 1000, low: p.demand[low], mid: p.demand[mid], high: p.demand[high] };
  });
  return { steps: clipped(steps, from, to), names: [q[low], q[high]].map((x) => `${Math.round(x * 100)}`) };
}

// Running nodes that the plan wants: {at, until, target} from now on.
export function wantedOf(plan, now, to) {
  const targets = (plan?.targets ?? []).map((t) => ({ ...t, at: Date.parse(t.at) })).sort((a, b) => a.at - b.at);
  const running = targets.filter((t) => t.standby_state === "running");
  const counts = new Map();
  const steps = [];
  for (const t of running) {
    counts.set(t.group, t.count);
    const target = [...counts.values()].reduce((a, b) => a + b, 0);
    const last = steps.at(-1);
    if (last && last.at === t.at) last.target = target;
    else steps.push({ at: t.at, target });
  }
  const end = Math.max(...targets.map((t) => t.at), now);
  return clipped(steps.map((s, i) => ({ ...s, until: i + 1 < steps.length ? steps[i + 1].at : end })), now, to);
}

export function clipped(steps, from, to) {
  return steps
    .map((s) => ({ ...s, at: Math.max(s.at, from), until: Math.min(s.until, to) }))
    .filter((s) => s.until > s.at);
}

// The step in force at an instant.
export const stepAt = (steps, at) => steps.find((s) => s.at <= at && at < s.until) ?? null;

// A number that is easy to read, at or above the value; never 0.
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].map((k) => k * unit).find((x) => x >= value * 0.999);
}

// Instants for the ticks of [from, to], at most `most`, on whole local minutes, hours or days.
export function ticksOf(from, to, most) {
  const minutes = [5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880].find((m) => (to - from) / 60e3 / m <= most) ?? 10080;
  const shift = new Date(from).getTimezoneOffset() * 60e3;
  const width = minutes * 60e3;
  const out = [];
  for (let at = Math.ceil((from - shift) / width) * width + shift; at <= to; at += width) out.push(at);
  return out;
}
