// Elements out of values. Text is always text: nothing here, or anywhere in the page, parses markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const by = (id) => document.getElementById(id);

export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export function notice(text, command) {
  return h("p", { class: "notice" }, text, command ? [" ", h("code", {}, command)] : null);
}

// Children of a list by key: what has not changed is left alone, so that focus, scroll and open details stay.
export function keyed(parent, items, key, make) {
  const before = new Map([...parent.children].map((c) => [c.dataset.key, c]));
  const after = items.map((item) => {
    const name = String(key(item));
    const seen = JSON.stringify(item);
    const old = before.get(name);
    if (old && old.dataset.seen === seen) return old;
    const made = make(item, old);
    made.dataset.key = name;
    made.dataset.seen = seen;
    if (old && old.contains(document.activeElement)) queueMicrotask(() => made.querySelector("a, summary")?.focus());
    return made;
  });
  if (after.length !== parent.children.length || after.some((c, i) => parent.children[i] !== c)) {
    parent.replaceChildren(...after);
  }
}
