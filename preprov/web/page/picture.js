// One pool over time: cores (ready, used, waiting, forecast) over nodes (by state, planned), with now in between.

import { h, put, svg } from "./dom.js";
import { known, PHASES } from "./pools.js";
import { bandOf, ceiling, clipped, rowsOf, stepAt, ticksOf, wantedOf } from "./series.js";
import { amount, minute, second, utc, when } from "./words.js";

const PANELS = { cores: { top: 26, height: 190 }, nodes: { top: 254, height: 116 } };
const HEIGHT = 398;
const LEFT = 44;
const RIGHT = 10;

const stacked = (rows, phases) =>
  rows.map((r) => {
    let floor = 0;
    const layers = phases.map((p) => [floor, (floor += r.nodes[p] ?? 0)]);
    return { ...r, layers, total: floor };
  });

// Everything that is drawn, in values.
export function sceneOf(data, hours, now) {
  const from = now - hours * 3600e3;
  const to = now + hours * 1200e3;
  const rows = clipped(rowsOf(data.points, now), from, now);
  const latest = bandOf(data.forecast, from, to);
  const begins = latest.steps[0]?.at ?? to;
  const earlier = bandOf(data.before, from, Math.min(begins, to));
  const band = [...earlier.steps, ...latest.steps];
  const wanted = wantedOf(data.plan, now, to);
  const there = new Set(rows.flatMap((r) => Object.keys(r.nodes).filter((p) => r.nodes[p])));
  const phases = PHASES.filter((p) => there.has(p)).concat([...there].filter((p) => !PHASES.includes(p)));
  return { from, to, now, rows: stacked(rows, phases), band, names: latest.names, wanted, phases };
}

// Returns what instant a place on it is, and what marks an instant (null = none).
export function draw(box, scene, width) {
  const x = (at) => LEFT + ((at - scene.from) / (scene.to - scene.from)) * (width - LEFT - RIGHT);
  const cores = panel("cores", Math.max(...scene.rows.map((r) => Math.max(r.ready, r.used + r.waiting)), ...scene.band.map((b) => b.high), 0));
  const nodes = panel("nodes", Math.max(...scene.rows.map((r) => Math.max(r.total, r.target)), ...scene.wanted.map((w) => w.target), 0), true);
  const cursor = svg("line", { class: "cursor", visibility: "hidden", y1: PANELS.cores.top, y2: PANELS.nodes.top + PANELS.nodes.height });
  const image = svg(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": summary(scene) },
    times(scene, x, width),
    grid(cores, width),
    grid(nodes, width),
    area(scene.band, x, (b) => cores.y(b.low), (b) => cores.y(b.high), "band"),
    area(scene.rows, x, () => cores.y(0), (r) => cores.y(r.used), "used"),
    area(scene.rows.filter((r) => r.waiting > 0), x, (r) => cores.y(r.used), (r) => cores.y(r.used + r.waiting), "waiting"),
    line(scene.band, x, (b) => cores.y(b.mid), "median"),
    line(scene.rows, x, (r) => cores.y(r.ready), "ready"),
    scene.phases.map((p, i) => area(scene.rows, x, (r) => nodes.y(r.layers[i][0]), (r) => nodes.y(r.layers[i][1]), `phase ${known(p)}`)),
    line(scene.rows, x, (r) => nodes.y(r.target), "target"),
    line(scene.wanted, x, (w) => nodes.y(w.target), "target"),
    present(scene, x),
    cursor,
  );
  put(box, image);
  const mark = (at) => {
    cursor.setAttribute("visibility", at === null ? "hidden" : "visible");
    for (const end of at === null ? [] : ["x1", "x2"]) cursor.setAttribute(end, x(at));
  };
  return { mark, at: (px) => scene.from + ((px - LEFT) / (width - LEFT - RIGHT)) * (scene.to - scene.from) };
}

function panel(name, most, whole = false) {
  const { top, height } = PANELS[name];
  const max = whole ? Math.max(Math.ceil(ceiling(most)), 2) : ceiling(most * 1.02);
  return { name, top, height, max, whole, y: (v) => top + height - (Math.min(v, max) / max) * height };
}

function grid(p, width) {
  const shares = p.whole && p.max % 2 ? [0, 1] : [0, 0.5, 1];
  return svg(
    "g",
    {},
    svg("text", { class: "name", x: 0, y: p.top - 12 }, p.name),
    shares.map((s) => [
      svg("line", { class: s ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: p.y(s * p.max), y2: p.y(s * p.max) }),
      svg("text", { class: "tick", x: LEFT - 6, y: p.y(s * p.max) + 4, "text-anchor": "end" }, amount(s * p.max)),
    ]),
  );
}

function times(scene, x, width) {
  const bottom = PANELS.nodes.top + PANELS.nodes.height;
  return ticksOf(scene.from, scene.to, Math.max(Math.floor((width - LEFT) / 64), 3)).map((at) =>
    svg(
      "g",
      {},
      svg("line", { class: "grid", x1: x(at), x2: x(at), y1: PANELS.cores.top, y2: bottom }),
      x(at) < width - 22 && x(at) > LEFT - 1 ? svg("text", { class: "tick", x: x(at), y: bottom + 20, "text-anchor": "middle" }, minute(at)) : null,
    ),
  );
}

function present(scene, x) {
  const at = x(scene.now);
  return svg(
    "g",
    {},
    svg("line", { class: "now", x1: at, x2: at, y1: PANELS.cores.top - 6, y2: PANELS.nodes.top + PANELS.nodes.height }),
    svg("text", { class: "name", x: at, y: PANELS.cores.top - 12, "text-anchor": "middle" }, "now"),
  );
}

// Steps that touch each other, together.
function stretches(steps) {
  const out = [];
  for (const s of steps) {
    if (out.length && out.at(-1).at(-1).until >= s.at) out.at(-1).push(s);
    else out.push([s]);
  }
  return out;
}

const n = (v) => v.toFixed(1);

function area(steps, x, low, high, name) {
  const d = stretches(steps).map((run) => {
    const over = run.map((s) => `L${n(x(s.at))} ${n(high(s))}L${n(x(s.until))} ${n(high(s))}`).join("");
    const back = [...run].reverse().map((s) => `L${n(x(s.until))} ${n(low(s))}L${n(x(s.at))} ${n(low(s))}`).join("");
    return `M${over.slice(1)}${back}Z`;
  });
  return d.length ? svg("path", { class: name, d: d.join("") }) : null;
}

function line(steps, x, y, name) {
  const d = stretches(steps).map((run) => `M${run.map((s) => `${n(x(s.at))} ${n(y(s))}L${n(x(s.until))} ${n(y(s))}`).join("L")}`);
  return d.length ? svg("path", { class: `line ${name}`, d: d.join("") }) : null;
}

// What the legend says of an instant; each is [class, name, value].
export function readings(scene, at) {
  const row = stepAt(scene.rows, at);
  const band = stepAt(scene.band, at);
  const wanted = at >= scene.now ? stepAt(scene.wanted, at) : row;
  const of = (value, unit) => (value === undefined || value === null ? "–" : `${amount(value)}${unit}`);
  const [low, high] = scene.names;
  return {
    cores: [
      ["line ready", "ready", of(row?.ready, "")],
      ["used", "used", of(row?.used, "")],
      ["waiting", "waiting", of(row?.waiting, "")],
      ["band", `forecast, ${low || 10} to ${high || 90} %`, band ? `${amount(band.low)} to ${amount(band.high)}` : "–"],
      ["line median", "forecast, middle", of(band?.mid, "")],
    ],
    nodes: [["line target", "planned", of(wanted?.target, "")], ...scene.phases.map((p) => [`phase ${known(p)}`, p, row ? String(row.nodes[p] ?? 0) : "–"])],
  };
}

export function legend(box, scene, at) {
  const { cores, nodes } = readings(scene, at);
  const group = (name, entries) =>
    h("div", {}, h("b", {}, name), h("ul", {}, entries.map(([kind, label, value]) => h("li", {}, h("i", { class: kind, "aria-hidden": "true" }), `${label} `, h("span", {}, value)))));
  put(box, h("p", { class: "instant" }, h("strong", {}, when(at, scene.now)), at > scene.now ? " ahead" : "", h("span", { class: "quiet" }, ` ${utc(at)}`)), group("cores", cores), group("nodes", nodes));
}

export function spoken(scene, at) {
  const { cores, nodes } = readings(scene, at);
  return `${minute(at)}: ${[...cores, ...nodes].filter(([, , v]) => v !== "–").map(([, l, v]) => `${l} ${v}`).join(", ") || "nothing known"}`;
}

function summary(scene) {
  const minutes = Math.round((scene.now - scene.from) / 60e3);
  const most = (f) => amount(Math.max(...scene.rows.map(f), 0));
  const ahead = scene.band.filter((b) => b.until > scene.now);
  const foretold = ahead.length ? ` Forecast ahead: up to ${amount(Math.max(...ahead.map((b) => b.high)))} cores.` : " No forecast ahead.";
  return `Last ${minutes < 90 ? `${minutes} min` : `${Math.round(minutes / 60)} h`} and what is ahead. At most ${most((r) => r.ready)} cores ready, ${most((r) => r.used)} used, ${most((r) => r.waiting)} waiting, ${most((r) => r.total)} nodes.${foretold}`;
}

export function table(scene) {
  const rows = [...scene.rows].reverse().slice(0, 60);
  const head = ["time", "ready, cores", "used", "waiting", "planned, nodes", ...scene.phases];
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures of the picture" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, head.map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, rows.map((r) => h("tr", {}, h("th", { scope: "row" }, second(r.at)), [r.ready, r.used, r.waiting, r.target, ...scene.phases.map((p) => r.nodes[p] ?? 0)].map((v) => h("td", {}, amount(v)))))),
    ),
  );
}
