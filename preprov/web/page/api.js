// What the API says. The token is in this tab's session storage and in the Authorization header, nowhere else.

const KEY = "preprov-token";
const PATIENCE_MS = 15000;

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

// The server answered, and said no. `waitS`: after how long it may be asked again.
export class Refused extends Error {
  constructor(status, problem, waitS) {
    super(problem.detail || `the server answered ${status}`);
    this.status = status;
    this.hint = problem.hint || "";
    this.waitS = waitS;
  }
}

// Nobody answered.
export class Unreachable extends Error {}

export async function get(path, query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== undefined));
  const url = asked.size ? `${path}?${asked}` : path;
  let answer;
  try {
    answer = await fetch(url, {
      headers: { Authorization: `Bearer ${token.get()}`, Accept: "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch (error) {
    throw new Unreachable(error.name === "TimeoutError" ? "it took too long to answer" : "it cannot be reached");
  }
  try {
    const document = await answer.json();
    if (answer.ok) return document;
    throw new Refused(answer.status, document, Number(answer.headers.get("Retry-After")) || 0);
  } catch (error) {
    if (error instanceof Refused) throw error;
    if (answer.ok) throw new Unreachable("its answer broke off");
    throw new Refused(answer.status, {}, Number(answer.headers.get("Retry-After")) || 0);
  }
}

export const part = (text) => encodeURIComponent(text);
