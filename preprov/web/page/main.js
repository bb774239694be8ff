// What is known, how old it is, and when it is asked for again.

import { get, part, Refused, token, Unreachable } from "./api.js";
import { showDecisions, showNext, showReservations } from "./decisions.js";
import { by, notice, put } from "./dom.js";
import { showPools } from "./pools.js";
import { Watch } from "./watch.js";
import { minute, second, span, usd, utc, when, ZONE } from "./words.js";

const LOOK_MS = 5000; // at the pools
const DETAIL_MS = 30000; // at the chosen one, unless a pass has seen it anew
const OUTCOMES_MS = 60000;
const MOST_POINTS = 800; // then all are asked for again, thinned
const WAITS_MS = [2000, 5000, 10000, 20000, 30000]; // while nobody answers

const state = { pools: null, outcomes: {}, outcomesAt: 0, chosen: "", detail: null, detailOf: "", at: 0, ahead: 0, failures: 0, trouble: null, retryAt: 0, timer: 0, epoch: 0 };
const watch = new Watch(by("picture"), () => look({ again: true }));
const now = () => Date.now() + state.ahead;

// ------------------------------------------------------------------ asking

// One answer of several: what this token may not see, or is not there yet, is an answer too.
async function maybe(asked) {
  try {
    return { value: await asked };
  } catch (error) {
    if (error instanceof Refused && [403, 404].includes(error.status)) return { refused: error };
    throw error;
  }
}

async function look({ again = false } = {}) {
  clearTimeout(state.timer);
  const epoch = ++state.epoch; // an answer that comes after another look has begun is thrown away
  if (!token.get()) return;
  try {
    const capacity = await get("v1/capacity");
    if (epoch !== state.epoch) return;
    state.ahead = Date.parse(capacity.at) - Date.now();
    state.pools = capacity.pools;
    choose();
    if (Date.now() - state.outcomesAt > OUTCOMES_MS) await outcomes(epoch);
    if (state.chosen && (again || due())) await detail(epoch);
    if (epoch !== state.epoch) return;
    state.at = Date.now();
    state.failures = 0;
    trouble(null);
    render();
    state.timer = setTimeout(look, LOOK_MS);
  } catch (error) {
    if (epoch === state.epoch) failed(error);
  }
}

async function outcomes(epoch) {
  const answer = await maybe(get("v1/outcomes", { hours: 12 }));
  if (epoch !== state.epoch) return;
  state.outcomes = Object.fromEntries((answer.value?.pools ?? []).map((o) => [o.pool, o]));
  state.outcomesAt = Date.now();
}

const seenAt = () => state.pools?.find((p) => p.pool === state.chosen)?.seen_at;
const due = () => !state.detail || state.detailOf !== `${state.chosen} ${seenAt()}` || Date.now() - state.detail.asked > DETAIL_MS;

async function detail(epoch) {
  const pool = state.chosen;
  const name = part(pool);
  const points = await past(name);
  const from = now() - watch.fitted(points, now()) * 3600e3;
  const [plan, [forecast, before], decisions, reservations] = await Promise.all([
    maybe(get(`v1/plans/${name}`, { ahead: true })),
    forecasts(name, from),
    maybe(get(`v1/decisions/${name}`, { most: 40 })),
    maybe(get("v1/reservations", { pool })),
  ]);
  if (epoch !== state.epoch || pool !== state.chosen) return;
  state.detail = { pool, points, back: watch.back, plan, forecast, before, decisions, reservations, asked: Date.now() };
  state.detailOf = `${pool} ${seenAt()}`;
}

// What was seen of the pool: all that is wanted, later only what came since.
async function past(name) {
  const known = state.detail && state.detail.back === watch.back && state.detail.points.length < MOST_POINTS ? state.detail.points : [];
  const since = known.at(-1)?.at;
  const asked = since ? { since, points: 400 } : { hours: watch.wanted, points: 400 };
  const answer = await maybe(get(`v1/capacity/${name}/history`, asked));
  const from = now() - watch.wanted * 3600e3;
  return [...known.filter((p) => Date.parse(p.at) >= from), ...(answer.value?.points ?? [])];
}

// The last one, and the one that stood where the picture begins, if that is another.
async function forecasts(name, from) {
  const last = await maybe(get(`v1/forecasts/${name}`));
  if (!last.value || Date.parse(last.value.issued_at) <= from) return [last, {}];
  return [last, await maybe(get(`v1/forecasts/${name}`, { at: new Date(from).toISOString() }))];
}

function choose() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("pool") ?? "";
  const names = state.pools.map((p) => p.pool);
  const chosen = names.includes(wanted) ? wanted : (names.includes(state.chosen) ? state.chosen : (names[0] ?? ""));
  if (chosen === state.chosen) return;
  state.chosen = chosen;
  state.detail = null;
  watch.forget();
}

// ------------------------------------------------------------------ when it goes wrong

function failed(error) {
  const wait = Math.max(WAITS_MS[Math.min(state.failures++, WAITS_MS.length - 1)], (error.waitS ?? 0) * 1000);
  if (error instanceof Refused && error.status === 401) {
    token.forget();
    trouble(`The server refuses this token: ${error.message}.`, "Show another one below.");
    render();
    by("token").focus();
    return;
  }
  if (!(error instanceof Refused || error instanceof Unreachable)) console.error(error);
  state.retryAt = Date.now() + wait;
  if (error instanceof Unreachable) trouble(`The server does not answer: ${error.message}.`);
  else if (error.status === 429) trouble(`The server asks for patience: ${error.message}.`);
  else if (error.status === 403) trouble(`This token may not look: ${error.message}.`, error.hint);
  else trouble(error instanceof Refused ? `The server cannot say: ${error.message}.` : "This page has made a mistake; its console says more.", error.hint ?? "");
  render();
  state.timer = setTimeout(look, wait);
}

function trouble(text, hint = "") {
  const said = text && [text, hint, state.pools && state.at ? `What you see is of ${second(state.at + state.ahead)}.` : ""].filter(Boolean).join(" ");
  if (said === state.trouble) return;
  state.trouble = said;
  by("trouble").hidden = !said;
  put(by("trouble"), said ? said : []);
}

// ------------------------------------------------------------------ showing

function render() {
  const inside = Boolean(token.get());
  const known = state.pools !== null;
  by("entry").hidden = inside;
  by("leave").hidden = !inside && !known;
  by("known").hidden = !known;
  by("known").classList.toggle("stale", known && Boolean(state.trouble));
  tell();
  if (!known) return;
  showPools(by("pools"), state.pools, state.outcomes, state.chosen, now());
  by("pool").hidden = !state.chosen || !state.detail;
  if (state.detail) renderPool(state.detail);
}

function renderPool(d) {
  by("pool-title").textContent = d.pool;
  put(by("plan"), planned(d));
  const value = (answer) => answer.value ?? null;
  watch.show({ points: d.points, plan: value(d.plan), forecast: value(d.forecast), before: value(d.before) }, now());
  showNext(by("next"), value(d.plan), now());
  if (d.decisions.value) showDecisions(by("decisions"), d.decisions.value.decisions, now());
  else put(by("decisions"), notice(`Decisions are not shown: ${d.decisions.refused.message}.`));
  if (d.reservations.value) showReservations(by("reservations"), d.reservations.value.reservations, now());
  else put(by("reservations"), notice(`Reservations are not shown: ${d.reservations.refused.message}.`));
}

function planned(d) {
  const plan = d.plan.value;
  const forecast = d.forecast.value ? `Forecast of ${when(Date.parse(d.forecast.value.issued_at), now())}.` : "No forecast yet.";
  if (!plan) return `No plan yet. ${forecast}`;
  const cost = plan.cost_usd === null ? "" : `, ${usd(plan.cost_usd)}`;
  return `Plan of ${when(Date.parse(plan.issued_at), now())}: ${plan.node_hours.toFixed(1)} node-hours${cost}. ${forecast}`;
}

// Once a second: the time here and in UTC, and how old it all is.
function tell() {
  const at = now();
  put(by("clock"), `${minute(at)} ${ZONE === "UTC" ? "" : "here, "}`, ZONE === "UTC" ? "UTC" : utc(at).slice(11));
  const age = by("age");
  const old = state.at ? span((Date.now() - state.at) / 1000) : "";
  age.dataset.state = state.trouble ? "stale" : state.at ? "fresh" : "none";
  const next = state.retryAt > Date.now() ? `, again in ${Math.ceil((state.retryAt - Date.now()) / 1000)} s` : "";
  const waiting = token.get() ? "asking" : "not signed in";
  const text = state.trouble ? (state.at ? `stale, ${old} old${next}` : `no answer${next}`) : state.at ? "up to date" : waiting;
  if (age.textContent !== text) age.textContent = text;
  document.title = `${state.trouble ? "stale · " : ""}${state.chosen ? `${state.chosen} · ` : ""}preprov`;
}

function leave() {
  token.forget();
  location.reload();
}

by("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(by("token").value.trim());
  by("token").value = "";
  Object.assign(state, { failures: 0, retryAt: 0, outcomesAt: 0, detail: null });
  trouble(null);
  render();
  look({ again: true });
});
by("leave").addEventListener("click", leave);
addEventListener("hashchange", () => state.pools && (choose(), render(), look({ again: true })));
addEventListener("online", () => look());
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(state.timer) : look()));
setInterval(tell, 1000);
by("zone").textContent = `Times are of ${ZONE}; hold the pointer over one for UTC.`;
render();
look();
