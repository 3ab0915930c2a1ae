// The figures of the inspector: the proof that nothing is missing, the position, the rate, and the connection.

import { h } from "./h.js";
import { duration } from "./times.js";

/** @import { StreamCount } from "./count.js" */
/** @import { Context } from "./types.js" */

const FIGURES_EVERY_MS = 250;
const FIGURES_RATE_S = 5; // the rate is the mean of so many seconds

const figuresNumber = new Intl.NumberFormat();

export class InspectorFigures {
  state = "";
  /** @type {StreamCount | undefined} */
  #count;
  #bytes = 0;
  #connections = 0;
  #since = 0;
  /** Records of each of the last seconds. @type {number[]} */
  #seconds = [0];
  #missing = 0;
  #ctx;
  #proof = h("strong", { class: "inspector-proof" });
  #reason = h("span", { class: "muted" });
  /** @type {Map<string, HTMLElement>} */
  #values = new Map(["Connection", "Position", "Rate", "Bytes", "Connected", "Reconnections"].map((name) => [name, h("dd", null)]));

  /** @param {Context} ctx */
  constructor(ctx) {
    this.#ctx = ctx;
    this.element = h("div", { class: "inspector-figures" },
      h("p", { class: "inspector-claim" }, this.#proof, " ", this.#reason),
      h("dl", null, [...this.#values].map(([name, value]) => h("div", null, h("dt", null, name), value))));
    const show = setInterval(() => this.#show(), FIGURES_EVERY_MS);
    const next = setInterval(() => (this.#seconds = [0, ...this.#seconds.slice(0, FIGURES_RATE_S)]), 1_000);
    ctx.signal.addEventListener("abort", () => {
      clearInterval(show);
      clearInterval(next);
    });
  }

  /** Another stream begins. @param {StreamCount} count */
  begin(count) {
    this.#count = count;
    this.#bytes = this.#connections = this.#since = this.#missing = 0;
    this.#seconds = [0];
    this.#show();
  }

  /** @param {number} bytes @param {boolean} isRecord */
  took(bytes, isRecord) {
    this.#bytes += bytes;
    if (isRecord) this.#seconds[0]++;
  }

  connected() {
    this.#connections++;
    this.#since = this.#ctx.broker.now();
  }

  #show() {
    const count = this.#count;
    if (!count) return;
    this.#write(this.#proof, figuresClaim(count));
    this.#proof.classList.toggle("inspector-gap", count.missing > 0);
    this.#write(this.#reason, figuresReason(count));
    if (count.missing > this.#missing) this.#ctx.announce(`${count.missing} records are missing.`);
    this.#missing = count.missing;
    const past = this.#seconds.slice(1);
    const rate = past.length ? past.reduce((sum, each) => sum + each, 0) / past.length : 0;
    const isLive = this.state === "live";
    this.#set("Connection", this.state);
    this.#set("Position", count.id || "–");
    this.#set("Rate", `${rate >= 10 ? Math.round(rate) : Number(rate.toFixed(1))} / s`);
    this.#set("Bytes", figuresNumber.format(this.#bytes));
    this.#set("Connected", this.#since && isLive ? `for ${duration(this.#ctx.broker.now() - this.#since)}` : "–");
    this.#set("Reconnections", String(Math.max(this.#connections - 1, 0)));
  }

  /** @param {string} name @param {string} text */
  #set(name, text) {
    this.#write(/** @type {HTMLElement} */ (this.#values.get(name)), text);
  }

  /** @param {HTMLElement} element @param {string} text */
  #write(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }
}

/** @param {StreamCount} count */
export function figuresClaim({ received, missing, proves }) {
  const came = `${figuresNumber.format(received)} received`;
  return proves ? `${came}, ${figuresNumber.format(missing)} missing` : came;
}

/** @param {StreamCount} count */
export function figuresReason({ proves, hidden, fromState, passed, skipped, repeated, resets }) {
  if (!proves) return hidden ? "The rules hide a part of this stream from you, so ids do not count." : "This stream shows only a part, so ids do not count.";
  const more = [
    fromState && "The state has only the newest record of each event, so ids have gaps until $ready.",
    passed && `${passed} ${passed === 1 ? "position is" : "positions are"} Broker's own, and not shown ($passed).`,
    skipped && `${skipped} ${skipped === 1 ? "was" : "were"} left out, and only the newest versions came ($skipped).`,
    resets && "The state came anew ($reset).",
    repeated && `${repeated} came twice.`,
  ];
  return ["The number at the end of the ids grows by one with each record.", ...more.filter(Boolean)].join(" ");
}
