// When a version is published, and when it ends.

import { h } from "./h.js";
import { SpanInput } from "./span_input.js";
import { fromLocalInput, localInput, zone } from "./times.js";

/** @import { Context } from "./types.js" */

const HOUR_MS = 3_600_000;

/** What somebody has chosen: times in milliseconds, null for none. @typedef {{at: number | null, until: number | null}} Moment */

export class WhenField {
  #ctx;
  #proposal = { text: "", until: NaN };
  #start = h("select", { id: "event-publish" }, h("option", { value: "now" }, "Now"), h("option", { value: "in" }, "In …"), h("option", { value: "at" }, "At a time"));
  #end = h("select", { id: "event-ends" }, h("option", { value: "never" }, "Never"), h("option", { value: "after" }, "After …"), h("option", { value: "until" }, "At a time"));
  #at = timeInput("Publish at");
  #until = timeInput("Ends at");
  #in = new SpanInput("Publish in", () => this.#say(""));
  #after = new SpanInput("Ends after", () => this.#say(""));
  #note = h("p", { class: "muted event-when-note" });
  #error = h("p", { class: "error", role: "alert", hidden: true });

  /** @param {Context} ctx @param {() => void} change */
  constructor(ctx, change) {
    this.#ctx = ctx;
    this.element = h("fieldset", { class: "event-when" }, h("legend", { class: "visually-hidden" }, "When"),
      h("div", { class: "event-when-part" }, h("label", { for: "event-publish" }, "Publish"), this.#start, this.#in.element, this.#at),
      h("div", { class: "event-when-part" }, h("label", { for: "event-ends" }, "Ends"), this.#end, this.#after.element, this.#until),
      this.#note, this.#error);
    const proposal = (/** @type {number} */ from) => localInput(from + HOUR_MS - (from % 60_000));
    this.#start.onchange = () => {
      this.#at.value ||= proposal(ctx.broker.now());
      this.#open(this.#start.value === "in" ? this.#in.number : this.#at, change);
    };
    this.#end.onchange = () => {
      this.#until.value ||= proposal(this.#startTime() ?? ctx.broker.now());
      this.#open(this.#end.value === "after" ? this.#after.number : this.#until, change);
    };
    this.#at.oninput = this.#until.oninput = () => this.#say("");
    this.#show();
  }

  get isScheduled() {
    return this.#start.value !== "now";
  }

  /** When it is published; null: at once. NaN: nothing is chosen. */
  #startTime() {
    if (this.#start.value === "in") return this.#ctx.broker.now() + this.#in.milliseconds;
    return this.isScheduled ? fromLocalInput(this.#at.value) : null;
  }

  /** @param {number} start */
  #endTime(start) {
    if (this.#end.value === "after") return start + this.#after.milliseconds;
    return this.#end.value === "until" ? this.#untilTime() : null;
  }

  reset() {
    this.#proposal = { text: "", until: NaN };
    this.#start.value = "now";
    this.#end.value = "never";
    this.#at.value = this.#until.value = "";
    this.#say("");
    this.#show();
  }

  /** Proposes the end of the version that is edited: without it, the new version would have none. @param {number | undefined} until */
  propose(until) {
    this.reset();
    if (until === undefined || until <= this.#ctx.broker.now() || this.#end.disabled) return;
    this.#proposal = { text: localInput(until), until };
    this.#end.value = "until";
    this.#until.value = this.#proposal.text;
    this.#show();
  }

  /** An end removes the event, which some may not. @param {boolean} mayRemove */
  allowEnd(mayRemove) {
    this.#end.disabled = !mayRemove;
    if (!mayRemove) this.#end.value = "never";
    this.#show();
    this.#end.title = mayRemove ? "" : "The rules do not permit you to remove this event, and an end removes it.";
  }

  /** Undefined, and a sentence that says why, if it is no valid choice. @returns {Moment | undefined} */
  read() {
    const now = this.#ctx.broker.now();
    const at = this.#startTime();
    const until = this.#endTime(at ?? now);
    if (at !== null && !(at > now)) return this.#refuse(this.#start.value === "in" ? this.#in.number : this.#at, Number.isNaN(at) ? "Choose when this version is published." : "This time has passed. Choose a later one, or publish now.");
    if (until !== null && !(until > (at ?? now))) return this.#refuse(this.#end.value === "after" ? this.#after.number : this.#until, Number.isNaN(until) ? "Choose when this version ends." : at === null ? "This time has passed. Choose a later one." : "A version cannot end before it is published.");
    this.#say("");
    return { at, until };
  }

  /** The field has whole seconds; the end that was proposed may be between two of them. */
  #untilTime() {
    const { text, until } = this.#proposal;
    return this.#until.value === text ? until : fromLocalInput(this.#until.value);
  }

  /** Shows the inputs of what is chosen, and goes to this one if it is among them. @param {HTMLInputElement} input @param {() => void} change */
  #open(input, change) {
    this.#say("");
    this.#show();
    change();
    input.focus();
  }

  #show() {
    this.#at.hidden = this.#start.value !== "at";
    this.#in.element.hidden = this.#start.value !== "in";
    this.#after.element.hidden = this.#end.value !== "after";
    this.#until.hidden = this.#end.value !== "until";
    const parts = [];
    if (!this.#at.hidden || !this.#until.hidden) parts.push(`Times are in your zone, ${zone}.`);
    if (this.isScheduled) parts.push("It replaces whatever is there by then.");
    if (this.#end.value !== "never") parts.push("The end removes the event; the version before does not come back.");
    this.#note.hidden = parts.length === 0;
    this.#note.textContent = parts.join(" ");
  }

  /** @param {HTMLInputElement} input @param {string} message @returns {undefined} */
  #refuse(input, message) {
    this.#say(message);
    input.focus();
    return undefined;
  }

  /** @param {string} message */
  #say(message) {
    this.#error.hidden = !message;
    this.#error.textContent = message;
  }
}

/** @param {string} label */
const timeInput = (label) => h("input", { type: "datetime-local", step: "1", "aria-label": `${label} (${zone})`, hidden: true });
