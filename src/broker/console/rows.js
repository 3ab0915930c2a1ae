// The rows of the table on the screen: as many elements as fit there, of one height, which show other rows as one scrolls.

import { fillCells, makeCells, setText, whenText } from "./cells.js";
import { h } from "./h.js";
import { eventRoute } from "./router.js";
import { fullTime } from "./times.js";

/** @import { Cells } from "./cells.js" */
/** @import { Listing } from "./listing.js" */
/** @import { Row } from "./row.js" */
/** @import { Context } from "./types.js" */

const ROWS_BEYOND = 8; // above and below what is seen
const ROWS_HEAD = 32; // pixels, as in events.css
const ROWS_HEIGHT = 36;
const ROWS_HEIGHT_NARROW = 64; // two lines
const ROWS_NARROW = matchMedia("(max-width: 760px)");
const ROWS_STILL = matchMedia("(prefers-reduced-motion: reduce)");
const FLASH_MS = 1_200;
const ROWS_FIT_MAX = 14; // characters of the columns When and By
const ROWS_CHARACTER = 9; // pixels, about

export class RowGrid {
  /** @type {Listing | null} */
  listing = null;
  /** What stands in place of a value of a row that is there only now. */
  missing = "";
  /** What is highlighted in the names. @type {string[]} */
  words = [];

  #ctx;
  #ranged;
  #body = h("div", { class: "events-body", role: "rowgroup" });
  /** By names, so that a row that moves keeps its element. @type {Map<string, Cells>} */
  #shown = new Map();
  /** @type {Cells[]} */
  #free = [];
  #made = 0;
  /** The name of the row that the keyboard has chosen. @type {string | null} */
  #active = null;
  #frame = 0;
  /** How many characters the last two columns have room for. */
  #widths = { when: 0, who: 0 };

  /** @param {Context} ctx @param {(first: number, last: number) => void} ranged  which rows are seen */
  constructor(ctx, ranged) {
    this.#ctx = ctx;
    this.#ranged = ranged;
    const head = ["Name", "Value", "When", "By"].map((each) => h("span", { role: "columnheader" }, each));
    this.element = h("div", { class: "events-grid", role: "grid", tabindex: "0", "aria-label": "Events", "aria-rowcount": "-1" },
      h("div", { class: "events-head", role: "rowgroup" }, h("div", { class: "events-row", role: "row" }, head)), this.#body);
    ctx.listen(this.element, "scroll", () => this.draw(), { passive: true });
    ctx.listen(this.element, "keydown", (event) => this.#press(event));
    ctx.listen(this.element, "focus", () => this.#activate(this.#index() ?? this.#first()));
    ctx.listen(this.#body, "pointerover", ({ target }) => this.#describe(target));
    const resize = new ResizeObserver(() => this.draw());
    resize.observe(this.element);
    const timer = setInterval(() => this.#tick(), 1_000);
    ctx.signal.addEventListener("abort", () => {
      resize.disconnect();
      clearInterval(timer);
      cancelAnimationFrame(this.#frame);
    });
  }

  get #height() {
    return ROWS_NARROW.matches ? ROWS_HEIGHT_NARROW : ROWS_HEIGHT;
  }

  /** Draws once in the next frame, however often it is called. */
  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  top() {
    this.element.scrollTop = 0;
  }

  /** Scrolls without anything moving, since the list above is longer now. @param {number} rows */
  shift(rows) {
    if (rows) this.element.scrollTop += rows * this.#height;
  }

  /** The indexes of the first row that is seen, and of the one behind the last. */
  get range() {
    const { scrollTop, clientHeight } = this.element;
    return [Math.floor(scrollTop / this.#height), Math.ceil((scrollTop + clientHeight - ROWS_HEAD) / this.#height)];
  }

  #paint() {
    const { listing } = this;
    if (!listing) return;
    const height = this.#height;
    this.#body.style.height = `${listing.length * height}px`;
    const [first, last] = this.range;
    const begin = Math.max(first - ROWS_BEYOND, listing.offset);
    const rows = listing.rows.slice(begin - listing.offset, Math.max(last + ROWS_BEYOND - listing.offset, 0));
    this.#release(new Set(rows.map((row) => row.name)));
    const now = this.#ctx.broker.now();
    rows.forEach((row, place) => this.#show(row, begin + place, height, now));
    this.#mark();
    this.#ranged(first, last);
  }

  /** @param {Set<string>} names  that are shown on */
  #release(names) {
    for (const [name, cells] of this.#shown)
      if (!names.has(name)) {
        this.#shown.delete(name);
        this.#free.push(cells);
      }
  }

  /** @param {Row} row @param {number} index @param {number} height @param {number} now */
  #show(row, index, height, now) {
    const cells = this.#shown.get(row.name) ?? this.#free.pop() ?? makeCells(++this.#made, this.#body);
    this.#shown.set(row.name, cells);
    if (cells.index !== index) {
      cells.index = index;
      cells.element.setAttribute("aria-rowindex", String(index + 2));
    }
    cells.element.style.transform = `translateY(${index * height}px)`;
    if (cells.row !== row || cells.version !== row.version) {
      fillCells(cells, row, this, now);
      this.#fit(cells);
    }
    // What has changed long before one scrolls there is nothing new.
    if (row.flash && performance.now() - row.flash < FLASH_MS) this.#flash(cells);
    row.flash = 0;
  }

  /** @param {Cells} cells */
  #flash(cells) {
    if (ROWS_STILL.matches) return;
    cells.flash?.cancel();
    cells.flash = cells.element.animate({ backgroundColor: ["var(--flash)", "transparent"] }, { duration: FLASH_MS, easing: "ease-out" });
  }

  /** The last two columns are as wide as what they have shown so far, so that the values have the rest and nothing
   * jumps. @param {Cells} cells */
  #fit({ when, who }) {
    for (const [column, { textContent }] of /** @type {const} */ ([["when", when], ["who", who]])) {
      const length = textContent?.length ?? 0;
      if (length <= this.#widths[column]) continue;
      this.#widths[column] = length;
      this.element.style.setProperty(`--events-${column}`, `${Math.min(length, ROWS_FIT_MAX) * ROWS_CHARACTER}px`);
    }
  }

  /** What "3 s ago" means goes on without a change. */
  #tick() {
    const now = this.#ctx.broker.now();
    for (const cells of this.#shown.values()) {
      if (cells.row) setText(cells.when, whenText(cells.row, now));
      this.#fit(cells);
    }
  }

  /** The whole time, and the whole name, for whoever points there. @param {HTMLElement} target */
  #describe(target) {
    for (const { element, row, name, note, when } of this.#shown.values())
      if (row && element.contains(target)) {
        name.title = row.name;
        when.title = fullTime(row.at);
        element.title = note.textContent ?? "";
      }
  }

  /** @returns {number | null} */
  #index() {
    const index = this.listing?.rows.findIndex((row) => row.name === this.#active) ?? -1;
    return index < 0 ? null : index + /** @type {Listing} */ (this.listing).offset;
  }

  #first() {
    return Math.ceil(this.element.scrollTop / this.#height);
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (event.altKey || event.shiftKey || (event.target !== this.element && event.key !== "Escape")) return;
    const index = this.#index() ?? this.#first();
    const page = Math.max(1, Math.floor((this.element.clientHeight - ROWS_HEAD) / this.#height) - 1);
    /** @type {{[key: string]: number}} */
    const steps = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page, Home: 0, End: Infinity };
    if (event.key in steps) {
      event.preventDefault();
      this.#activate(steps[event.key]);
    } else if (event.key === "Enter" && this.#active !== null) this.#ctx.go(eventRoute(this.#active));
  }

  /** @param {number} wanted */
  #activate(wanted) {
    const { listing } = this;
    if (!listing?.length) return;
    const index = Math.max(0, Math.min(wanted, listing.length - 1));
    const height = this.#height;
    const room = this.element.clientHeight - ROWS_HEAD - height;
    if (index * height < this.element.scrollTop) this.element.scrollTop = index * height;
    else if (index * height > this.element.scrollTop + room) this.element.scrollTop = index * height - room;
    this.#active = listing.at(index)?.name ?? this.#active;
    this.draw();
  }

  /** Shows which row the keyboard has chosen. */
  #mark() {
    const active = this.#active === null ? undefined : this.#shown.get(this.#active)?.element;
    if (active) this.element.setAttribute("aria-activedescendant", active.id);
    else this.element.removeAttribute("aria-activedescendant");
    for (const { element } of this.#shown.values()) {
      if (element === active) element.setAttribute("aria-selected", "true");
      else if (element.hasAttribute("aria-selected")) element.removeAttribute("aria-selected");
    }
    // Elements that show no row are hidden, also from screen readers.
    for (const { element } of this.#free) element.hidden = true;
    for (const { element } of this.#shown.values()) element.hidden = false;
  }
}
