// The screen Inspector: the stream as it comes, with the count that proves that nothing is missing.

import { StreamCount } from "./count.js";
import { copyButton } from "./copy.js";
import { FrameList } from "./framelist.js";
import { h } from "./h.js";
import { InspectorFigures } from "./figures.js";
import { probe } from "./probe.js";
import { openStream } from "./stream.js";

/** @import { StreamFrame, StreamState } from "./stream.js" */
/** @import { Context } from "./types.js" */

const INSPECTOR_WIDE = matchMedia("(min-width: 761px)");
const INSPECTOR_FRAMES = "plain: a frame has the event's name and its data. whole records: a frame is a record, with who has inserted it, and when";
const INSPECTOR_OWN = "EventSource, and Broker's client in a page of your own, do the same by themselves: they connect again, and go on behind the last id.";

/** @param {Context} ctx */
export function inspectorScreen(ctx) {
  ctx.title("Inspector");
  return new Inspector(ctx).element;
}

class Inspector {
  #ctx;
  #test;
  #figures;
  #list = new FrameList(() => this.#showPause());
  #count = new StreamCount(false);
  #close = () => {};
  /** Whether somebody has closed the stream. */
  #closed = false;
  /** @type {StreamState} */
  #state = "waiting";
  #problem = h("p", { class: "error", role: "alert", hidden: true });

  #filter = h("input", { class: "mono", placeholder: "all events, or orders/*", maxLength: 256, spellcheck: false, autocapitalize: "none" });
  #frames = h("select", null, h("option", { value: "" }, "plain"), h("option", { value: "record" }, "whole records"));
  #framesField = h("label", { class: "field", title: INSPECTOR_FRAMES }, h("span", null, "Frames"), this.#frames);
  #begin = h("input", { type: "checkbox" });
  #text = h("input", { type: "search", class: "inspector-text", "aria-label": "Filter the frames", placeholder: "Filter names and data", "aria-keyshortcuts": "/", title: "Show only frames with this text (/)" });
  #pause = h("button", { "aria-keyshortcuts": "p", onclick: () => this.#togglePause() });
  #paused = h("p", { class: "inspector-paused", "aria-hidden": "true", hidden: true }); // the button says it, too
  #controls = h("details", { class: "inspector-controls" }, h("summary", null, "What is shown, pause, and disconnect"));
  #connection = h("button", { onclick: () => this.#toggleConnection() });

  /** @param {Context} ctx */
  constructor(ctx) {
    this.#ctx = ctx;
    this.#test = probe(ctx);
    this.#figures = new InspectorFigures(ctx);
    this.#filter.value = ctx.query.get("event") ?? "";
    this.#frames.value = ctx.query.get("frames") ?? "";
    this.#begin.checked = ctx.query.get("begin") === "state";
    this.#text.value = ctx.query.get("text") ?? "";
    this.element = this.#build();
    this.#list.filter(this.#text.value);
    ctx.signal.addEventListener("abort", () => this.#list.stop());
    ctx.commands([
      { name: "Pause or resume the frames", keys: "p", run: () => this.#togglePause() },
      { name: "Send a test event", keys: "t", run: () => this.#test.send() },
      { name: "Disconnect or reconnect the stream", run: () => this.#toggleConnection() },
      { name: "Filter the frames", keys: "/", run: () => this.#focusText() },
    ]);
    this.#anew();
    this.#showPause();
  }

  #build() {
    const options = h("form", { class: "inspector-options", "aria-label": "What the stream brings", onsubmit: (/** @type {Event} */ event) => this.#apply(event) },
      h("label", { class: "field" }, h("span", null, "Events"), this.#filter),
      this.#framesField,
      h("label", { class: "inspector-check" }, this.#begin, "begin with the state"),
      h("button", { title: "Open another stream, and count from the beginning" }, "Apply"));
    this.#text.addEventListener("input", () => {
      this.#list.filter(this.#text.value);
      this.#ctx.setQuery("text", this.#text.value || null);
    });
    return h("section", { class: "inspector", "aria-labelledby": "inspector-title" },
      h("header", { class: "inspector-head" }, h("h1", { id: "inspector-title" }, "Inspector"), this.#test.element),
      this.#test.outcome,
      this.#figures.element,
      this.#fold(options, h("div", { class: "toolbar inspector-toolbar" },
        this.#text, this.#pause, this.#connection,
        h("button", { class: "quiet", onclick: () => this.#list.clear() }, "Clear"),
        copyButton(() => this.#list.text, "Copy all", "Copy all frames that are shown"))),
      this.#problem,
      h("div", { class: "inspector-stage" }, this.#list.element, this.#paused),
      h("p", { class: "inspector-note-own muted" }, INSPECTOR_OWN));
  }

  #focusText() {
    this.#controls.open = true;
    this.#text.focus();
  }

  /** On a phone, they are folded: there is no room for them and for the frames. @param {Element[]} controls */
  #fold(...controls) {
    this.#controls.append(...controls);
    this.#controls.open = INSPECTOR_WIDE.matches;
    this.#ctx.listen(INSPECTOR_WIDE, "change", () => (this.#controls.open = INSPECTOR_WIDE.matches));
    return this.#controls;
  }

  /** Opens the stream as the form says. @param {Event} event */
  #apply(event) {
    event.preventDefault();
    this.#ctx.setQuery("event", this.#filter.value || null);
    this.#ctx.setQuery("frames", this.#frames.value || null);
    this.#ctx.setQuery("begin", this.#begin.checked ? "state" : null);
    this.#anew();
  }

  /** Opens another stream, and counts from the beginning. */
  async #anew() {
    this.#close();
    this.#list.clear();
    const count = (this.#count = new StreamCount(Boolean(this.#filter.value)));
    this.#figures.begin(count);
    this.#problem.hidden = true;
    let id = "";
    if (!this.#begin.checked) {
      try {
        id = await this.#head();
      } catch (error) {
        // Whatever it is, the stream meets it, too, and says it.
      }
    }
    if (this.#count === count) this.#open(id);
  }

  /** The id of now. Without one, a stream begins with the whole state, which may be large. */
  async #head() {
    const event = this.#filter.value ? `&event=${encodeURIComponent(this.#filter.value)}` : "";
    const response = await this.#ctx.api.get(`snapshot?limit=1&data=no${event}`);
    return response.headers.get("Last-Event-ID") ?? "";
  }

  /** @param {string} lastEventId */
  #open(lastEventId) {
    if (this.#ctx.signal.aborted) return;
    /** @type {Record<string, string>} */
    const query = {};
    if (this.#filter.value) query.event = this.#filter.value;
    if (this.#frames.value) query.frames = this.#frames.value;
    this.#closed = false;
    this.#close = openStream(this.#ctx, {
      query, lastEventId,
      frame: (frame) => this.#take(frame),
      line: (data) => this.#list.add({ kind: "line", data, time: this.#ctx.broker.now() }),
      state: (state, error, id) => this.#enter(state, error, id),
    });
    this.#showConnection();
  }

  /** @param {StreamFrame} frame */
  #take(frame) {
    const { id, event, data, time, bytes } = frame;
    this.#count.take(frame);
    this.#figures.took(bytes, !event?.startsWith("$") && data !== undefined);
    const entry = this.#list.add({ kind: "frame", id, event, data, time });
    const took = this.#test.took(frame);
    if (took) this.#list.mark(entry, took);
  }

  /** @param {StreamState} state @param {Error} [error] @param {string} [id] */
  #enter(state, error, id = "") {
    const before = this.#state;
    this.#state = state;
    if (state === "connecting") {
      this.#count.opened(id);
      this.#note(id ? `connecting, from ${id} on` : "connecting, from the state on");
    }
    if (state === "live" && before !== "live") this.#figures.connected();
    if (state === "waiting" && before === "live") this.#note("the connection was lost");
    if (state === "denied") this.#closed = true;
    this.#problem.hidden = state !== "denied";
    if (state === "denied") this.#problem.textContent = `The stream is refused: ${error?.message ?? ""}`;
    this.#showConnection();
  }

  /** @param {string} data */
  #note(data) {
    this.#list.add({ kind: "note", data, time: this.#ctx.broker.now() });
  }

  #togglePause() {
    if (this.#list.paused) this.#list.resume();
    else this.#list.pause("button");
  }

  #showPause() {
    const { paused, unseen } = this.#list;
    if (paused && this.#paused.hidden) this.#ctx.announce("Paused. The stream goes on; resume to see what is new.");
    this.#paused.hidden = !paused;
    this.#paused.textContent = `Paused, ${unseen} new`;
    this.#pause.classList.toggle("primary", Boolean(paused));
    this.#pause.textContent = paused ? `Resume${unseen ? ` (${unseen} new)` : ""}` : "Pause";
    this.#pause.title = paused ? "Go on with the newest frames (p)" : "Keep the frames that are shown; the stream goes on (p)";
  }

  #toggleConnection() {
    if (this.#closed) return this.#open(this.#count.id);
    this.#close();
    this.#closed = true;
    this.#state = "waiting";
    this.#note("disconnected by hand");
    this.#showConnection();
  }

  #showConnection() {
    this.#connection.textContent = this.#closed ? "Reconnect" : "Disconnect";
    this.#figures.state = this.#closed ? "disconnected" : { connecting: "connecting …", live: "live", waiting: "interrupted", denied: "refused" }[this.#state];
  }
}
