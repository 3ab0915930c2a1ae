// A length of time: a number and its unit.

import { h } from "./h.js";

/** @type {[string, number][]} */
const SPAN_UNITS = [["s", 1_000], ["min", 60_000], ["h", 3_600_000], ["days", 86_400_000]];

export class SpanInput {
  #unit;

  /** @param {string} label @param {() => void} change */
  constructor(label, change) {
    this.number = h("input", { type: "number", class: "event-span", min: "0", step: "any", value: "10", "aria-label": label, oninput: change });
    this.#unit = h("select", { "aria-label": `${label}: the unit`, onchange: change }, SPAN_UNITS.map(([name]) => h("option", { value: name }, name)));
    this.#unit.value = "min";
    this.element = h("span", { class: "event-when-part", hidden: true }, this.number, this.#unit);
  }

  /** NaN if there is no number. */
  get milliseconds() {
    const [, size] = SPAN_UNITS.find(([name]) => name === this.#unit.value) ?? ["", NaN];
    return this.number.valueAsNumber * size;
  }
}
