// The pools at a glance: what is there against what the plan wants, and how the last hours went.

import { h, keyed, notice, put } from "./dom.js";
import { amount, plural, share, span, usd } from "./words.js";

export const PHASES = ["ready", "warming", "draining", "hibernated", "stopped", "failed", "lost"];
const QUIET_S = 300;
const MODES = {
  observe: "watches only",
  recommend: "says what it would do",
  floor: "may raise, never lower",
  full: "acts",
};

export const phasesOf = (nodes) => PHASES.filter((p) => nodes[p]).concat(Object.keys(nodes).filter((p) => !PHASES.includes(p) && nodes[p]));

export function showPools(list, pools, outcomes, chosen, now) {
  if (!pools.length) {
    put(list, h("li", { class: "empty" }, notice("There is no pool that this token may see. An example is written by", "preprov init")));
    return;
  }
  const items = pools.map((pool) => ({
    ...pool,
    seen_at: undefined,
    quiet: quiet(pool, now),
    outcome: outcomes[pool.pool] ?? null,
    chosen: pool.pool === chosen,
  }));
  keyed(list, items, (p) => p.pool, card);
}

// Minutes since it was looked at, once that is odd; 0 = all is well; -1 = not in the last hour.
function quiet(pool, now) {
  if (!pool.seen_at) return -1;
  const seconds = (now - Date.parse(pool.seen_at)) / 1000;
  return seconds > QUIET_S ? Math.round(seconds / 60) : 0;
}

function card(p) {
  const seen = p.quiet >= 0;
  const ready = p.nodes.ready ?? 0;
  const short = seen && p.target !== null && ready < p.target;
  return h(
    "li",
    { class: "pool card", "data-chosen": p.chosen },
    h(
      "div",
      { class: "heading" },
      h("h3", {}, h("a", { href: `#pool=${encodeURIComponent(p.pool)}`, "aria-current": p.chosen ? "true" : null }, p.pool)),
      h("span", { class: "badge", title: MODES[p.mode] ?? "" }, p.mode),
    ),
    seen
      ? h(
          "p",
          { class: short ? "figure short" : "figure" },
          h("strong", {}, String(ready)),
          ` ready of ${p.target === null ? "unknown" : p.target} planned now`,
        )
      : null,
    p.quiet ? trouble(p.quiet) : null,
    p.blocked && p.blocked !== `mode is ${p.mode}` ? h("p", { class: "warning" }, `Nothing is raised: ${p.blocked}.`) : null,
    seen ? [bar(p.nodes), use(p)] : null,
    outcome(p.outcome),
  );
}

function trouble(minutes) {
  const text = minutes < 0 ? "Not looked at in the last hour." : `Not looked at for ${minutes} min.`;
  return h("p", { class: "warning" }, `${text} Is `, h("code", {}, "preprov up"), " running?");
}

function bar(nodes) {
  const there = phasesOf(nodes);
  if (!there.length) return h("p", { class: "quiet" }, "No nodes.");
  return h(
    "div",
    {},
    h("div", { class: "bar", "aria-hidden": "true" }, there.map((p) => grown(h("span", { class: `phase ${known(p)}` }), nodes[p]))),
    h("ul", { class: "counts", "aria-label": "Nodes by state" }, there.map((p) => h("li", {}, h("i", { class: `phase ${known(p)}` }), `${nodes[p]} ${p}`))),
  );
}

function grown(element, count) {
  element.style.flexGrow = count;
  return element;
}

export const known = (phase) => (PHASES.includes(phase) ? phase : "other");

function use(p) {
  const { allocatable, held, waiting } = p;
  return h(
    "dl",
    { class: "use" },
    row("held", `${amount(held.cpu)} of ${amount(allocatable.cpu)} cores, ${amount(held.memory)} of ${amount(allocatable.memory)} GiB`),
    row("waiting", waiting.cpu || waiting.memory ? `${amount(waiting.cpu)} cores, ${amount(waiting.memory)} GiB` : "nothing", waiting.cpu > 0),
  );
}

function outcome(o) {
  if (!o) return null;
  const tasks = o.instances
    ? `${share(o.warm_hit_ratio)} of ${plural(o.instances, "task")} found a warm node; they waited ${span(o.wait_mean_s)} on average, 95 % at most ${span(o.wait_p95_s)}`
    : "no task started";
  const money = o.usd === null ? null : `${usd(o.usd)}, ${usd(o.idle_usd)} of it idle`;
  return h("dl", { class: "use" }, row("last 12 h", tasks), money ? row("cost", money) : null);
}

const row = (name, text, alarming = false) => h("div", {}, h("dt", {}, name), h("dd", { class: alarming ? "short" : null }, text));
