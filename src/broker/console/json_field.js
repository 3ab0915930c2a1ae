// A field for JSON: a plain text area with line numbers, which says where a mistake is.

import { formatJson } from "./format.js";
import { h, replace } from "./h.js";
import { readJson } from "./json.js";

/** @import { Context } from "./types.js" */
/** @import { JsonNode, JsonProblem } from "./json.js" */

const CHECK_MS = 250; // after the last key
const UNDO_CHARACTERS_MAX = 100_000; // a browser takes seconds to make the change of a longer text undoable
const NUMBERS_MAX = 20_000; // lines that have numbers
const ROWS_MIN = 8;
const ROWS_MAX = 200; // the style sheet allows less, as the window does

export class JsonField {
  #gutter = h("div", { class: "event-gutter", "aria-hidden": "true" });
  #result = h("div", { class: "event-result", id: "event-result" });
  #spoken = h("p", { class: "visually-hidden", role: "status" });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #lines = 0;
  #leaving = false;
  #empty = "No data yet.";

  /** @param {Context} ctx @param {() => void} change */
  constructor(ctx, change) {
    this.change = change;
    this.area = h("textarea", {
      class: "mono event-json", spellcheck: false, autocapitalize: "none", autocomplete: "off", wrap: "off", "aria-label": "Data (JSON)",
      "aria-describedby": "event-result event-keys", placeholder: '{"any": "JSON"}', dir: "ltr", readOnly: true,
    });
    this.area.oninput = () => this.#changed();
    this.area.onscroll = () => (this.#gutter.style.transform = `translateY(${-this.area.scrollTop}px)`);
    this.area.onkeydown = (event) => this.#press(event);
    this.element = h("div", { class: "event-field" },
      h("div", { class: "event-frame" }, h("div", { class: "event-gutter-frame" }, this.#gutter), this.area), this.#result, this.#spoken);
    ctx.signal.addEventListener("abort", () => clearTimeout(this.#timer));
    this.#number();
  }

  get text() {
    return this.area.value;
  }

  /** What is said of no text. @param {string} text */
  sayEmpty(text) {
    if (text === this.#empty) return;
    this.#empty = text;
    this.#check(false);
  }

  /** Shows another text. The caret and what is in view stay where they are, as far as they can. @param {string} text */
  show(text) {
    const { scrollTop, selectionStart } = this.area;
    this.area.value = text;
    this.area.setSelectionRange(selectionStart, selectionStart);
    this.area.scrollTop = scrollTop;
    this.#number();
    this.#check(false);
  }

  /** Reads the text. If there is a mistake, it is shown and said, and the caret goes there.
   * @returns {JsonNode | undefined} */
  read() {
    const { node, problem } = this.#check(true);
    if (problem) this.#go(problem);
    return node;
  }

  format() {
    const node = this.read();
    if (!node) return;
    const text = formatJson(this.text, node);
    if (text === this.text) return;
    this.#write(text);
    this.#changed();
    this.#check(false);
  }

  /** Replaces the whole text, so that the browser's Undo brings the former one back. @param {string} text */
  #write(text) {
    if (text.length + this.text.length < UNDO_CHARACTERS_MAX) {
      this.area.focus();
      this.area.select();
      if (document.execCommand("insertText", false, text)) return this.area.setSelectionRange(0, 0);
    }
    this.area.value = text;
    this.area.setSelectionRange(0, 0);
  }

  #changed() {
    this.#number();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#check(true), CHECK_MS);
    this.change();
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const { key, shiftKey, altKey } = event;
    const command = event.ctrlKey || event.metaKey;
    if (key === "Tab" && !shiftKey && !altKey && !command && !this.#leaving && !this.area.readOnly) {
      event.preventDefault();
      if (!document.execCommand("insertText", false, "  ")) this.area.setRangeText("  ", this.area.selectionStart, this.area.selectionEnd, "end");
    } else if (key.toLowerCase() === "f" && shiftKey && altKey && !command) {
      event.preventDefault();
      this.format();
    }
    this.#leaving = key === "Escape";
  }

  #number() {
    let lines = 1;
    for (let at = this.text.indexOf("\n"); at >= 0 && lines < NUMBERS_MAX; at = this.text.indexOf("\n", at + 1)) lines++;
    if (lines === this.#lines) return;
    this.#lines = lines;
    this.area.rows = Math.max(ROWS_MIN, Math.min(ROWS_MAX, lines + 1));
    this.#gutter.textContent = Array.from({ length: lines }, (_, line) => line + 1).join("\n");
  }

  /** @param {boolean} aloud */
  #check(aloud) {
    clearTimeout(this.#timer);
    const result = readJson(this.text);
    const isEmpty = !this.text.trim();
    const [warning] = result.warnings;
    this.area.setAttribute("aria-invalid", String(Boolean(result.problem) && !isEmpty));
    if (isEmpty) replace(this.#result, h("span", { class: "muted" }, this.#empty));
    else if (result.problem) replace(this.#result, this.#place(result.problem, "event-problem"));
    else if (warning) replace(this.#result, this.#place(warning, "event-warning"));
    else replace(this.#result, h("span", { class: "muted" }, `Valid JSON, ${this.#lines} ${this.#lines === 1 ? "line" : "lines"}`));
    const message = isEmpty ? "" : (result.problem ?? warning)?.message ?? "";
    // Said once, and not again with each key while it is the same.
    if (aloud && message !== this.#spoken.textContent) this.#spoken.textContent = message;
    return result;
  }

  /** @param {JsonProblem} problem @param {string} kind */
  #place(problem, kind) {
    const text = problem.message;
    return h("button", { type: "button", class: `link ${kind}`, title: "Go there", onclick: () => this.#go(problem) }, text[0].toUpperCase() + text.slice(1));
  }

  /** Puts the caret at a place, in view. @param {JsonProblem} problem */
  #go({ at, line }) {
    this.area.focus();
    this.area.setSelectionRange(at, at);
    const height = parseFloat(getComputedStyle(this.area).lineHeight);
    const top = (line - 1) * height;
    if (top < this.area.scrollTop || top > this.area.scrollTop + this.area.clientHeight - 2 * height) this.area.scrollTop = top - this.area.clientHeight / 2;
  }
}
