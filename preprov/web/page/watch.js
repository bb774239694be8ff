// The picture as somebody uses it: how far back, which instant, and the figures as a table.

import { h, put } from "./dom.js";
import { draw, legend, sceneOf, spoken, table } from "./picture.js";

const NIGHT = 12; // hours
const CHOICES = ["fit", 1, 3, NIGHT, 24];

export class Watch {
  constructor(box, changed) {
    this.box = box;
    this.back = "fit"; // hours; fit = as far back as anything is known, half a day at the most
    this.hours = NIGHT;
    this.cursor = null;
    this.data = null;
    this.changed = changed;
    this.canvas = h("div", { class: "canvas" });
    this.readout = h("div", { class: "legend" });
    this.slider = h("input", { type: "range", min: 0, max: 1000, step: 1, "aria-label": "Instant to look at", input: () => this.point(Number(this.slider.value) / 1000) });
    this.more = h("details", { toggle: () => this.tabulate() }, h("summary", {}, "These figures as a table"), h("div", {}));
    this.choice = h("fieldset", { class: "choice" }, h("legend", {}, "Show"), CHOICES.map((back) => this.option(back)));
    this.canvas.addEventListener("pointermove", (e) => this.hover(e));
    this.canvas.addEventListener("pointerleave", () => this.release());
    put(box, h("div", { class: "heading" }, h("h3", {}, "Over time"), this.choice), this.readout, this.canvas, this.slider, this.more);
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  option(back) {
    const input = h("input", { type: "radio", name: "hours", value: back, checked: back === this.back, change: () => this.choose(back) });
    return h("label", {}, input, back === "fit" ? " all" : ` ${back} h`);
  }

  choose(back) {
    this.back = back;
    this.changed();
  }

  // How many hours of the past are wanted.
  get wanted() {
    return this.back === "fit" ? NIGHT : this.back;
  }

  // How many are shown of these points.
  fitted(points, now) {
    if (this.back !== "fit" || !points.length) return this.wanted;
    return Math.min(Math.max(((now - Date.parse(points[0].at)) / 3600e3) * 1.03, 0.2), NIGHT);
  }

  forget() {
    this.data = null;
    this.cursor = null;
  }

  show(data, now) {
    this.hours = this.fitted(data.points, now);
    this.data = data;
    this.now = now;
    this.redraw();
  }

  redraw() {
    if (!this.data || !this.canvas.clientWidth) return;
    this.scene = sceneOf(this.data, this.hours, this.now);
    this.drawn = draw(this.canvas, this.scene, this.canvas.clientWidth);
    this.read();
    this.tabulate();
  }

  read() {
    this.drawn.mark(this.cursor);
    const at = this.cursor ?? this.now;
    legend(this.readout, this.scene, this.cursor ?? this.now - 1);
    if (document.activeElement !== this.slider) this.slider.value = Math.round(((at - this.scene.from) / (this.scene.to - this.scene.from)) * 1000);
    this.slider.setAttribute("aria-valuetext", spoken(this.scene, this.cursor ?? this.now - 1));
  }

  point(fraction) {
    if (!this.scene) return;
    this.cursor = this.scene.from + fraction * (this.scene.to - this.scene.from);
    this.read();
  }

  hover(event) {
    if (!this.drawn) return;
    const at = this.drawn.at(event.clientX - this.canvas.getBoundingClientRect().left);
    if (at < this.scene.from || at > this.scene.to) return this.release();
    this.cursor = at;
    this.read();
  }

  release() {
    this.cursor = null;
    if (this.drawn) this.read();
  }

  tabulate() {
    if (this.more.open && this.scene) put(this.more.lastChild, table(this.scene));
  }
}
