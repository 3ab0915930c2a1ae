// The table of events: the list, what changes in it, and the state of another time in its place.

import { h } from "./h.js";
import { liveRows } from "./live.js";
import { hasWords, wordsOf } from "./marked.js";
import { rowOf } from "./row.js";
import { RowGrid } from "./rows.js";

/** @import { Listing } from "./listing.js" */
/** @import { Shown } from "./live.js" */
/** @import { StreamState } from "./stream.js" */
/** @import { Context } from "./types.js" */

const TABLE_MOVE_MS = 400; // between two times at which rows take other places
const TABLE_AGAIN_MS = 3_000; // until the server is asked again, after it could not be reached
const TABLE_NEAR = 40; // rows from an end of what is in memory, from where on the next page is read

export class EventTable {
  /** @type {StreamState} */
  state = "connecting";
  /** @type {Error | null} */
  error = null;
  /** Which time is shown, and null for now. @type {number | null} */
  at = null;
  /** How many changes have come. */
  changes = 0;

  #ctx;
  #shown;
  #told;
  #grid;
  #live;
  /** @type {Listing | null} */
  #then = null;
  /** @type {number | null} */
  #wanted = null;
  #asked = 0; // how often something else was to be shown
  #asking = false;
  /** @type {() => unknown} */
  #closeStream = closed;
  #pill = h("button", { type: "button", class: "events-pill", hidden: true });
  #pointed = false;
  #first = 0; // the row that is on top
  #moved = 0; // when rows have last taken their places
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {Context} ctx @param {Shown} shown
   * @param {{changed: () => void, name: (name: string) => void, pending: () => void}} told  something has changed that
   *   stands around the table; a name has come; what is planned may have changed */
  constructor(ctx, shown, told) {
    this.#ctx = ctx;
    this.#shown = shown;
    this.#told = told;
    this.#grid = new RowGrid(ctx, (first, last) => this.#scrolled(first, last));
    this.#grid.words = wordsOf(shown.search);
    this.#live = liveRows(this.#ctx, this.#shown);
    this.element = h("div", { class: "events-table" }, this.#pill, this.#grid.element);
    this.#pill.onclick = () => this.#refresh();
    // The button lies over the rows, so whoever points at it still points at the table.
    ctx.listen(this.element, "pointerenter", () => (this.#pointed = true));
    ctx.listen(this.element, "pointerleave", () => {
      this.#pointed = false;
      this.#settleSoon();
    });
    ctx.listen(this.element, "focusout", () => setTimeout(() => this.#settleSoon()));
    ctx.signal.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  /** The list that is shown. */
  get listing() {
    return this.#then ?? this.#live.listing;
  }

  focus() {
    this.#grid.element.focus();
  }

  /** Shows other rows, or in another order. @param {Partial<Shown>} shown */
  async select(shown) {
    this.#shown = { ...this.#shown, ...shown };
    this.#grid.words = wordsOf(this.#shown.search);
    this.#live = liveRows(this.#ctx, this.#shown);
    this.#then = null;
    this.#grid.top();
    await this.show(this.#wanted);
  }

  /** Shows the state of a time; with null, of now. While a request is under way, only the newest time waits.
   * @param {number | null} time */
  async show(time) {
    this.#wanted = time;
    this.#asked++;
    if (this.#asking) return;
    this.#asking = true;
    for (let turn = 0; turn !== this.#asked && !this.#ctx.signal.aborted; ) {
      turn = this.#asked;
      if (this.#wanted === null) this.at = this.#then = null;
      await (this.#wanted === null ? this.begin() : this.#showThen(this.#wanted));
    }
    this.#asking = false;
  }

  /** Reads the list, and opens the stream behind it. */
  async begin() {
    const live = this.#live;
    await this.#attempt(async () => {
      if (!(await live.begin()) || live !== this.#live || this.at !== null) return;
      this.#grid.listing = live.listing;
      if (this.#closeStream === closed) void this.#open(live.listing.id);
    });
  }

  /** @param {number} time */
  async #showThen(time) {
    this.at = time;
    this.#pill.hidden = true;
    await this.#attempt(async () => {
      const shown = this.#shown;
      const { listingThen } = await import("./then.js");
      const then = this.#then ?? listingThen(this.#ctx, this.#shown, () => this.at ?? time);
      const [first, last] = this.#then ? this.#grid.range : [0, 0];
      if (!(await then.again(first, last)) || shown !== this.#shown) return; // other rows are wanted meanwhile
      this.#then = this.#grid.listing = then;
      this.#grid.missing = time < this.#ctx.broker.now() ? "not there yet" : "not there any more";
    });
  }

  /** Reads something, and shows what comes of it. @param {() => Promise<void>} read */
  async #attempt(read) {
    try {
      await read();
      this.error = null;
    } catch (error) {
      if (this.#ctx.signal.aborted) return;
      this.error = /** @type {Error} */ (error);
      this.#again(this.error);
    }
    this.#draw();
  }

  /** What failed because of the server or the network is tried again by itself. @param {Error & {status?: number}} error */
  #again({ status = 0 }) {
    if (status > 0 && status < 500) return;
    setTimeout(() => this.error && !this.#ctx.signal.aborted && void this.show(this.at), TABLE_AGAIN_MS);
  }

  #draw() {
    this.#grid.draw();
    this.#told.changed();
  }

  /** @param {string} id */
  async #open(id) {
    let wanted = true;
    this.#closeStream = () => (wanted = false);
    const [{ openStream }, token] = await Promise.all([import("./stream.js"), this.#ctx.broker.token()]);
    if (!wanted) return;
    const { under } = this.#shown;
    /** @type {Record<string, string | string[]>} */
    const query = { frames: "record" };
    if (under) query.event = [`${under}*`];
    // Without a token, nobody is told about what is planned.
    if (token) query.pending = "yes";
    this.#closeStream = openStream(this.#ctx, {
      query,
      lastEventId: id,
      frame: ({ event, data }) => this.#take(event, data),
      state: (state, error) => {
        this.state = state;
        if (state === "denied") this.error = error ?? null;
        // What could not be read while the server was unreachable is read now.
        if (state === "live" && this.error) void this.show(this.at);
        this.#told.changed();
      },
    });
  }

  /** @param {string | undefined} event @param {string | undefined} data */
  #take(event, data) {
    if (event === "$pending") this.#told.pending();
    if (event === "$reset") return this.#restart();
    if (event !== undefined || data === undefined) return;
    const row = rowOf(data);
    this.changes++;
    this.#told.name(row.name);
    if (hasWords(row.name, this.#grid.words)) this.#live.take(row);
    if (this.at !== null) return;
    this.#grid.draw();
    this.#settleSoon();
  }

  /** The log is another one, or the rights are: nothing of what is shown is certain. */
  #restart() {
    this.#closeStream();
    this.#closeStream = closed;
    void this.select({});
  }

  /** Whether rows must stay where they are, because somebody is about to click on one, or reads further down. */
  get #held() {
    return this.#pointed || this.element.contains(document.activeElement) || this.#first > 0;
  }

  #settleSoon() {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      if (this.at === null && !this.#held) void this.#settle();
      this.#showPill();
      this.#told.changed();
    }, Math.max(0, this.#moved + TABLE_MOVE_MS - performance.now()));
  }

  async #settle() {
    this.#moved = performance.now();
    const live = this.#live;
    if (live.reading) return;
    if (live.overflow || live.listing.offset) return this.begin();
    if (!live.waiting) return;
    live.settle();
    this.#grid.draw();
  }

  #showPill() {
    const { waiting, overflow } = this.#live;
    this.#pill.hidden = this.at !== null || !waiting;
    if (this.#pill.hidden) return;
    const count = `${overflow ? "more than " : ""}${waiting.toLocaleString("en")}`;
    this.#pill.textContent = `↑ ${count} ${waiting === 1 ? "change" : "changes"}`;
  }

  /** Puts everything at its place, since somebody wants it. */
  async #refresh() {
    this.#grid.top();
    if (this.#pill === document.activeElement) this.focus();
    await this.#settle();
    this.#showPill();
  }

  /** @param {number} first @param {number} last */
  async #scrolled(first, last) {
    this.#first = first;
    const { listing } = this;
    try {
      if (last > listing.length - TABLE_NEAR && (await listing.extend(first))) this.#draw();
      if (listing.offset && first < listing.offset + TABLE_NEAR) {
        const shift = await listing.back();
        if (shift === false) return;
        this.#grid.shift(shift);
        this.#draw();
      }
    } catch {} // the next time that somebody scrolls
    if (first === 0) this.#settleSoon();
  }
}

/** The stream is not open. */
function closed() {}
