// What is live in the table: values change in place at once, and rows take other places only when nobody points there.

import { Listing } from "./listing.js";
import { byNames, compareNewest, isNewer } from "./row.js";
import { loadNow } from "./snapshot.js";

/** @import { Row } from "./row.js" */
/** @import { Selected } from "./snapshot.js" */
/** @import { Context } from "./types.js" */

/** What the table shows, and in which order. @typedef {Selected & {order: "newest" | "name"}} Shown */

const LIVE_WAITING_MAX = 1_000; // rows that wait for their places; with more, the list is read again

/** @param {Context} ctx @param {Shown} shown */
export function liveRows(ctx, shown) {
  const newest = shown.order === "newest";
  return new LiveRows(new Listing(loadNow(ctx, shown, newest), newest ? compareNewest : byNames), newest);
}

export class LiveRows {
  /** Whether more rows wait than are kept. */
  overflow = false;
  /** Whether the list is being read. */
  reading = false;
  listing;

  /** Rows that are to be put at their places, the newest last. @type {Map<string, Row>} */
  #waiting = new Map();
  #newest;

  /** @param {Listing} listing @param {boolean} newest  whether a change moves a row, or the order is by name */
  constructor(listing, newest) {
    this.listing = listing;
    this.#newest = newest;
  }

  get waiting() {
    return this.#waiting.size;
  }

  /** Reads the list from its beginning. Returns false if another call was faster. */
  async begin() {
    this.reading = true;
    this.overflow = false;
    if (!(await this.listing.begin())) return false;
    this.#begun();
    return true;
  }

  /** A record has come that belongs to the list. @param {Row} row */
  take(row) {
    if (!this.reading && !this.#apply(row)) return;
    this.#waiting.delete(row.name);
    // What the list that is being read has of it turns out later.
    if (this.reading || this.#moves(row)) this.#wait(row);
  }

  /** Changes the row in place. Returns false if the list has this version already. @param {Row} row */
  #apply({ name, value, id, at, user, removed }) {
    const known = this.listing.names.get(name);
    if (!known) return true;
    if (!isNewer(id, known.id)) return false;
    // What was removed stays readable until it goes.
    if (!removed) known.value = value;
    Object.assign(known, { id, at, user, removed, version: known.version + 1, flash: performance.now() });
    return true;
  }

  /** Whether the row takes another place. @param {Row} row */
  #moves(row) {
    return !row.removed && (this.#newest || (!this.listing.names.has(row.name) && this.listing.covers(row)));
  }

  /** @param {Row} row */
  #wait(row) {
    this.#waiting.set(row.name, row);
    if (this.#waiting.size <= LIVE_WAITING_MAX) return;
    this.#waiting.delete(/** @type {string} */ (this.#waiting.keys().next().value));
    this.overflow = true;
  }

  /** Puts all rows at their places. */
  settle() {
    const rows = [...this.#waiting.values()].map((row) => {
      const known = this.listing.names.get(row.name);
      return known ? Object.assign(known, { place: known.id }) : Object.assign(row, { flash: performance.now() });
    });
    this.#waiting.clear();
    this.listing.place(rows);
  }

  /** What has come while the list was read, and is newer than the list, remains. */
  #begun() {
    const rows = [...this.#waiting.values()];
    this.#waiting.clear();
    this.reading = false;
    for (const row of rows)
      if (isNewer(row.id, this.listing.id || null) && this.#apply(row) && this.#moves(row)) this.#waiting.set(row.name, row);
  }
}
