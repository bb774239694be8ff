// Figures and instants as people read them.

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC";
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });

export const minute = (at) => clock.format(at);
export const second = (at) => exact.format(at);
export const utc = (at) => `${new Date(at).toISOString().slice(0, 16).replace("T", " ")}Z`;

// Within half a day of now the hour says enough.
export function when(at, now) {
  const text = minute(at);
  return Math.abs(at - now) < 12 * 3600e3 ? text : `${day.format(at)} ${text}`;
}

export function span(seconds) {
  const s = Math.max(seconds, 0);
  if (s < 0.05) return "0 s";
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 99.5) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 48 * 3600) return `${(s / 3600).toFixed(s < 36000 ? 1 : 0)} h`;
  return `${Math.round(s / 86400)} days`;
}

export function amount(x) {
  if (x === null || x === undefined) return "unknown";
  const size = Math.abs(x);
  return Number(size >= 100 ? x.toFixed(0) : size >= 1 ? x.toFixed(1) : x.toPrecision(2)).toLocaleString("en-US");
}

export function usd(x) {
  if (x === null || x === undefined) return "no price known";
  const size = Math.abs(x);
  const text = (size >= 0.1 || size === 0 ? size.toFixed(2) : size.toFixed(4)).replace(/(\.\d\d\d*?)0+$/, "$1");
  return `${x < 0 ? "−" : ""}${text} USD`;
}

export const share = (x) => (x === null || x === undefined ? "unknown" : `${Math.round(x * 100)} %`);
export const plural = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;
