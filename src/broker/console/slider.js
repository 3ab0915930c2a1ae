// The slider of time: any moment of the log, and beyond now what is planned.

import { h } from "./h.js";
import { SCALE_LINES, SCALE_STEPS, positionOf, timeAt } from "./scale.js";
import { ago, fromLocalInput, localInput, timeText, zone } from "./times.js";

/** @import { Store } from "../js/types.js" */
/** @import { Context } from "./types.js" */

const SLIDER_STEP = 5; // of an arrow key
const SLIDER_PAGE = 50; // of Page Up and Page Down
const SLIDER_HOUR_MS = 3_600_000;
const SLIDER_THUMB = 20; // pixels, as in events.css

/** Makes a slider. `change` is called with each time that is chosen, and with null for now.
 * @param {Context} ctx @param {{at: number | null, change: (time: number | null) => void,
 *   pending?: Store<readonly number[]>}} options  `pending`: when records are due, in milliseconds */
export function slider(ctx, { at, change, pending }) {
  return new TimeSlider(ctx, at, change, pending).element;
}

class TimeSlider {
  #ctx;
  #change;
  /** @type {number | null} */
  #at;
  /** @type {readonly number[]} */
  #due = [];
  #held = false; // a finger or the mouse holds the thumb
  #input = h("input", { type: "range", class: "slider-input", min: String(-SCALE_STEPS), max: String(SCALE_STEPS), step: "1", "aria-label": "Time" });
  #words = h("output", { class: "slider-words" });
  #exact = h("input", { type: "datetime-local", step: "1", class: "slider-exact", "aria-label": `Exact time (${zone})`, title: `In the zone ${zone}` });
  #now = h("button", { type: "button", class: "slider-now" }, "Now");
  #marks = h("div", { class: "slider-marks", "aria-hidden": "true" });

  /** @param {Context} ctx @param {number | null} at @param {(time: number | null) => void} change
   * @param {Store<readonly number[]>} [pending] */
  constructor(ctx, at, change, pending) {
    this.#ctx = ctx;
    this.#at = at;
    this.#change = change;
    this.element = h("div", { class: "slider", role: "group", "aria-label": "The state at another time" },
      h("div", { class: "slider-bar" }, this.#words, h("label", { class: "slider-field" }, this.#exact), this.#now),
      h("div", { class: "slider-track" }, this.#marks, this.#input), scaleLines());
    ctx.listen(this.#input, "input", () => this.#choose(timeAt(Number(this.#input.value), ctx.broker.now())));
    ctx.listen(this.#input, "keydown", (event) => this.#press(event));
    ctx.listen(this.#input, "pointerdown", () => (this.#held = true));
    for (const type of ["pointerup", "pointercancel", "blur"]) ctx.listen(this.#input, type, () => this.#release());
    ctx.listen(this.#exact, "change", () => {
      const time = fromLocalInput(this.#exact.value);
      this.#choose(Number.isNaN(time) ? null : time);
    });
    ctx.listen(this.#now, "click", () => {
      this.#choose(null);
      this.#input.focus(); // the button has nothing to do any more
    });
    if (pending)
      ctx.watch(pending, (due) => {
        this.#due = due;
        this.#draw();
      });
    const timer = setInterval(() => this.#draw(), 1_000);
    ctx.signal.addEventListener("abort", () => clearInterval(timer));
    this.#draw();
  }

  /** @param {number | null} time */
  #choose(time) {
    const changed = time !== this.#at;
    this.#at = time;
    this.#draw();
    if (changed) this.#change(time);
  }

  #release() {
    this.#held = false;
    this.#draw();
  }

  /** The steps of a browser are as fine as the scale, so a key would have to be pressed very often.
   * @param {KeyboardEvent} event */
  #press(event) {
    const value = Number(this.#input.value);
    /** @type {{[key: string]: number}} */
    const steps = {
      ArrowLeft: -SLIDER_STEP, ArrowDown: -SLIDER_STEP, ArrowRight: SLIDER_STEP, ArrowUp: SLIDER_STEP,
      PageDown: -SLIDER_PAGE, PageUp: SLIDER_PAGE, Home: -Infinity, End: Infinity,
    };
    const step = steps[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey || !step) return;
    event.preventDefault();
    // Whoever goes step by step does not miss now.
    const crosses = Math.sign(value + step) === -Math.sign(value) && Number.isFinite(step);
    const wanted = crosses ? 0 : Math.max(-SCALE_STEPS, Math.min(value + step, SCALE_STEPS));
    this.#input.value = String(wanted);
    this.#choose(timeAt(Number(this.#input.value), this.#ctx.broker.now()));
  }

  #draw() {
    const now = this.#ctx.broker.now();
    const at = this.#at;
    if (!this.#held && document.activeElement !== this.#input) this.#input.value = String(at === null ? 0 : positionOf(at - now));
    if (at === null && !this.#held) this.#input.value = "0";
    const words = at === null ? "Now · drag to another time" : `${ago(at, now)} · ${timeText(at)}`;
    if (this.#words.textContent !== words) this.#words.textContent = words;
    this.#input.setAttribute("aria-valuetext", words);
    this.element.classList.toggle("slider-then", at !== null);
    this.#now.disabled = at === null;
    if (document.activeElement !== this.#exact) this.#exact.value = localInput(at ?? now);
    this.#drawMarks(now);
  }

  /** @param {number} now */
  #drawMarks(now) {
    // Marks that would stand on each other are one.
    const places = new Set(this.#due.filter((time) => time > now).map((time) => Math.round(positionOf(time - now) / 5) * 5));
    const wanted = [...places];
    while (this.#marks.childElementCount > wanted.length) this.#marks.lastChild?.remove();
    while (this.#marks.childElementCount < wanted.length) this.#marks.append(h("span", { class: "slider-mark" }));
    wanted.forEach((place, index) => setLeft(/** @type {HTMLElement} */ (this.#marks.children[index]), place));
  }
}

/** The middle of the thumb does not reach the ends of the track. @param {HTMLElement} element @param {number} position */
function setLeft(element, position) {
  const part = (position + SCALE_STEPS) / (2 * SCALE_STEPS);
  element.style.left = `calc(${100 * part}% + ${(0.5 - part) * SLIDER_THUMB}px)`;
}

function scaleLines() {
  const line = (/** @type {number} */ offset, /** @type {string} */ text, /** @type {string} */ kind) => {
    const each = h("span", { class: `slider-line ${kind}` }, text);
    setLeft(each, positionOf(offset));
    return each;
  };
  const lines = h("div", { class: "slider-scale", "aria-hidden": "true" }, line(0, "now", "slider-middle"));
  SCALE_LINES.forEach(([offset, text], index) => {
    const isEnd = index === SCALE_LINES.length - 1;
    // There is no room for all of them on a phone.
    const kind = offset === SLIDER_HOUR_MS || offset === 24 * SLIDER_HOUR_MS ? "" : "slider-wide";
    lines.append(line(-offset, text, isEnd ? "slider-first" : kind), line(offset, text, isEnd ? "slider-last" : kind));
  });
  return lines;
}
