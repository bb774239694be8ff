// What was decided, with its why on demand; what the plan means to do next; what is reserved.

import { get, part } from "./api.js";
import { h, keyed, notice, put } from "./dom.js";
import { amount, plural, second, span, usd, utc, when } from "./words.js";

const instant = (text, now, show = when) => h("time", { datetime: text, title: utc(text) }, show(Date.parse(text), now));
// The reason without what the line above it says already.
const because = (a) => (a.reason?.startsWith(`${a.kind} ${a.count} x `) ? a.reason.slice(a.reason.indexOf(": ") + 2) : a.reason);

const RESULTS = { done: "good", failed: "bad", guarded: "odd", skipped: "odd" };

export function showNext(box, plan, now) {
  const ahead = (plan?.actions ?? []).filter((a) => a.kind !== "hold" && Date.parse(a.at) > now).slice(0, 4);
  if (!ahead.length) return put(box);
  const rows = ahead.map((a) => h("li", {}, instant(a.at, now), ` ${a.kind} ${a.count} × ${a.offering || a.group}`, a.reason ? h("span", { class: "quiet" }, `: ${because(a)}`) : null));
  return put(box, h("h4", {}, "Next, if nothing changes"), h("ol", { class: "plain" }, rows));
}

export function showDecisions(box, decisions, now) {
  if (!decisions.length) return put(box, notice("Nothing was decided in the last day."));
  let list = box.querySelector(":scope > ol");
  if (!list) put(box, (list = h("ol", { class: "decisions" })));
  return keyed(list, decisions, (d) => d.action_id, (d, old) => decision(d, old, now));
}

function decision(d, old, now) {
  const body = h("div", { class: "why" });
  const details = h(
    "details",
    { toggle: () => details.open && explain(body, d, now) },
    h(
      "summary",
      {},
      h("span", { class: "what" }, instant(d.at, now, second), " ", h("b", {}, d.kind), ` ${d.count} × ${d.offering || d.group}`),
      h("span", { class: `badge ${RESULTS[d.result] ?? ""}` }, d.result),
      d.cost_usd === null ? null : h("span", { class: "cost" }, `${d.cost_usd > 0 ? "+" : ""}${usd(d.cost_usd)}`),
      d.reason ? h("span", { class: "reason quiet" }, because(d)) : null,
    ),
    body,
  );
  if (old?.querySelector("details")?.open) details.open = true;
  return h("li", {}, details);
}

async function explain(body, d, now) {
  if (!body.childElementCount) put(body, h("p", { class: "quiet" }, "Asking why …"));
  try {
    const story = await get(`v1/why/action/${part(d.action_id)}`);
    put(body, alternatives(story.plans), foretold(story.foretold, now), outcomes(story.outcomes), figures(d), events(story.events, now), h("p", { class: "quiet" }, "decision ", h("code", {}, d.action_id)));
  } catch (error) {
    put(body, notice(error.status === 403 ? "Only an administrator's token is told why: plans are made for everybody's work." : `Why is not known: ${error.message}.`));
  }
}

function alternatives(plans) {
  if (!plans.length) return h("p", { class: "quiet" }, "The plan behind it is not kept any more.");
  return plans.slice(0, 3).map((p) => {
    const chosen = h("tr", { class: "taken" }, h("th", { scope: "row" }, "this plan"), h("td", { class: "short-cell" }, usd(p.cost_usd)), h("td", { class: "short-cell" }, `${amount(p.wait_core_hours)} core-h`), h("td", {}, p.fallback || "taken"));
    const others = p.alternatives.map((a) => h("tr", {}, h("th", { scope: "row" }, a.name), h("td", { class: "short-cell" }, usd(a.cost_usd)), h("td", { class: "short-cell" }, `${amount(a.wait_core_hours)} core-h`), h("td", {}, a.why_not)));
    const head = h("tr", {}, ["course", "cost", "waiting", "why not"].map((t) => h("th", { scope: "col" }, t)));
    const caption = h("caption", {}, `What was considered, plan ${p.plan_id}`);
    const none = others.length ? null : h("p", { class: "quiet" }, "Nothing else was weighed: it answers what was there at that moment.");
    return h("div", {}, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Alternatives" }, h("table", {}, caption, h("thead", {}, head), h("tbody", {}, chosen, others))), none, p.notes.map((t) => h("p", { class: "quiet" }, t)));
  });
}

function foretold(hours, now) {
  return hours.map((f) => {
    const cores = f.cores.p50 === undefined ? "no forecast had been issued" : `${amount(f.cores.p50)} cores (${amount(f.cores.p5)} to ${amount(f.cores.p95)})`;
    const came = f.came === null ? "nobody looked" : `${amount(f.came)} came`;
    return h("p", {}, h("b", {}, "Foretold"), " for the hour from ", instant(f.since, now), `: ${cores}; ${came}.`);
  });
}

function outcomes(nodes) {
  if (!nodes.length) return null;
  return h("div", {}, h("b", {}, "What came of it"), h("ul", { class: "plain" }, nodes.map((o) => h("li", {}, h("code", {}, o.node_id), ` ${o.words}`))));
}

function figures(d) {
  const entries = Object.entries(d.figures ?? {});
  if (!entries.length) return null;
  return h("dl", { class: "use" }, entries.map(([k, v]) => h("div", {}, h("dt", {}, k.replaceAll("_", " ")), h("dd", {}, amount(v)))));
}

function events(rows, now) {
  return h("ol", { class: "plain" }, rows.map((e) => h("li", {}, instant(e.at, now, second), ` ${e.what}`, e.who ? h("span", { class: "quiet" }, ` by ${e.who}`) : null)));
}

export function showReservations(box, reservations, now) {
  if (!reservations.length) return put(box, notice("Nothing is reserved here. Make one with", "preprov reservation create"));
  let list = box.querySelector(":scope > ul");
  if (!list) put(box, (list = h("ul", { class: "plain reservations" })));
  return keyed(list, reservations, (r) => r.reservation_id, (r) => reservation(r, now));
}

function reservation(r, now) {
  const first = r.segments[0];
  const last = r.segments.at(-1);
  const peak = (k) => Math.max(...r.segments.map((s) => s[k]), 0);
  const wants = [["cores", "cpu"], ["GiB", "memory"], ["GPUs", "gpu"]].filter(([, k]) => peak(k)).map(([unit, k]) => `${amount(peak(k))} ${unit}`);
  const bound = r.nodes.filter((node) => node !== null);
  return h(
    "li",
    {},
    h("div", { class: "heading" }, h("b", {}, r.claimant), h("span", { class: `badge ${r.ready ? "good" : ""}` }, r.ready ? `${r.state}, ready` : r.state)),
    h("p", {}, `${r.count > 1 ? `${r.count} × ` : ""}${wants.join(", ") || "nothing"}, `, first ? [instant(first.start, now), " to ", instant(last.end, now), `, ${span((Date.parse(last.end) - Date.parse(first.start)) / 1000)}`] : "over"),
    h("p", { class: "quiet" }, [`for ${r.tenant}`, r.purpose === "window" ? "turn of a window" : "", bound.length ? `on ${plural(bound.length, "node")}` : "", r.reason].filter(Boolean).join(" · ")),
  );
}
