// The list of the schedule. Its rows stay the same elements as long as their entries are there, so that focus stays, too.

import { entryRow } from "./entry.js";
import { h } from "./h.js";
import { PendingTexts } from "./texts.js";

/** @import { Entry, EntryRow } from "./entry.js" */
/** @import { Context } from "./types.js" */

const ENTRIES_PAGE = 200; // entries that are shown at first, and that one more click adds
const ENTRIES_FLASH_MS = 1_600; // how long what became due is still shown
const ENTRIES_EARLY_MS = 500; // an entry that goes so long before its time has become due: clocks differ a little

const ENTRY_GROUPS = ["Next minute", "Today", "Tomorrow", "This week", "Later"];

/** The number of the group in which a time is. @param {number} at @param {number} now */
export function entryGroup(at, now) {
  if (at <= now + 60_000) return 0;
  if (at < new Date(now).setHours(24, 0, 0, 0)) return 1;
  if (at < new Date(now).setHours(48, 0, 0, 0)) return 2;
  return at < now + 7 * 86_400_000 ? 3 : 4;
}

export class EntryList {
  #ctx;
  #texts;
  /** @type {readonly Entry[]} */
  #entries = [];
  /** @type {Map<string, EntryRow>} */
  #rows = new Map();
  /** Rows of what has become due, which flash before they go. @type {Set<EntryRow>} */
  #leaving = new Set();
  #limit = ENTRIES_PAGE;
  #groups = ENTRY_GROUPS.map((name, index) => {
    const list = h("ul", { class: "schedule-list", "aria-labelledby": `schedule-group-${index}` });
    return { list, element: h("section", { class: "schedule-group", hidden: true }, h("h2", { id: `schedule-group-${index}` }, name), list) };
  });
  #more = h("button", { class: "schedule-more", hidden: true, onclick: () => this.#showMore() }, `Show ${ENTRIES_PAGE} more`);

  /** @param {Context} ctx */
  constructor(ctx) {
    this.#ctx = ctx;
    this.#texts = new PendingTexts(ctx);
    this.element = h("div", { class: "schedule-groups" }, this.#groups.map((each) => each.element), this.#more);
  }

  /** Whether something that has become due is still shown. */
  get leaving() {
    return this.#leaving.size > 0;
  }

  /** @param {readonly Entry[]} entries  by time @param {number} now */
  show(entries, now) {
    this.#entries = entries;
    const focused = [...this.#rows.values()].find((each) => each.element.contains(document.activeElement));
    this.#follow(entries.slice(0, this.#limit), now);
    const ordered = [...this.#rows.values(), ...this.#leaving].sort((a, b) => a.entry.at - b.entry.at);
    this.#groups.forEach(({ list, element }, index) => {
      const wanted = ordered.filter((each) => entryGroup(each.entry.at, now) === index);
      arrange(list, wanted);
      element.hidden = !wanted.length;
    });
    for (const row of this.#rows.values()) row.tick(now);
    if (focused && !this.#rows.has(focused.entry.key)) this.#stay(focused.entry);
    this.#more.hidden = entries.length <= this.#limit;
  }

  /** Shows the row of an entry. @param {string} key */
  reveal(key) {
    const row = this.#rows.get(key);
    row?.element.scrollIntoView({ block: "center" });
    row?.element.querySelector("a")?.focus();
  }

  #showMore() {
    this.#limit += ENTRIES_PAGE;
    this.show(this.#entries, this.#ctx.broker.now());
  }

  /** Makes the rows of these entries, and lets the others go. @param {readonly Entry[]} entries @param {number} now */
  #follow(entries, now) {
    const keys = new Set(entries.map((each) => each.key));
    const gone = [...this.#rows.values()].filter((each) => !keys.has(each.entry.key));
    for (const row of gone) this.#rows.delete(row.entry.key);
    const due = gone.filter((each) => !each.withdrawn && each.entry.at - now <= ENTRIES_EARLY_MS);
    if (due.length) this.#flash(due);
    for (const entry of entries) {
      const row = this.#rows.get(entry.key);
      if (!row) this.#rows.set(entry.key, entryRow(this.#ctx, entry, this.#texts));
      else if (row.entry.at !== entry.at || row.entry.until !== entry.until || row.entry.user !== entry.user) row.show(entry);
    }
  }

  /** What became due flashes and goes. What was cancelled or moved goes at once. @param {EntryRow[]} rows */
  #flash(rows) {
    for (const row of rows) {
      this.#leaving.add(row);
      row.tick(row.entry.at);
      row.element.classList.add("schedule-gone");
      row.element.inert = true;
    }
    const [{ entry }] = rows;
    const what = entry.kind === "end" ? "has ended" : "is published";
    this.#ctx.announce(rows.length > 1 ? `${rows.length} entries of the schedule became due.` : `${entry.event} ${what}.`);
    setTimeout(() => {
      for (const row of rows) this.#leaving.delete(row);
      this.show(this.#entries, this.#ctx.broker.now());
    }, ENTRIES_FLASH_MS);
  }

  /** The entry that had the focus has gone: the focus goes to its event, if that was moved, or to the next entry.
   * @param {Entry} entry */
  #stay({ event, at }) {
    const rows = [...this.#rows.values()].sort((a, b) => a.entry.at - b.entry.at);
    const next = rows.find((each) => each.entry.event === event) ?? rows.find((each) => each.entry.at >= at) ?? rows.at(-1);
    (next?.element.querySelector("a") ?? document.getElementById("main"))?.focus();
  }
}

/** Puts rows into this order. Only rows that are in another place are touched, since an element that is inserted again
 * loses the focus. @param {HTMLElement} list @param {readonly EntryRow[]} wanted */
function arrange(list, wanted) {
  const elements = new Set(wanted.map((each) => each.element));
  for (const child of [...list.children]) if (!elements.has(/** @type {HTMLLIElement} */ (child))) child.remove();
  let next = list.firstElementChild;
  for (const { element } of wanted) {
    if (element === next) next = next.nextElementSibling;
    else {
      const focused = element.contains(document.activeElement) ? document.activeElement : null;
      list.insertBefore(element, next);
      if (focused instanceof HTMLElement) focused.focus();
    }
  }
}
