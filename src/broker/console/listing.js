// The listing: the part of a long list that a page has in memory. It is read in pages as somebody scrolls, and what is
// far from there is dropped, so its size does not depend on how many events there are.

/** @import { Row } from "./row.js" */

const LISTING_FIRST = 60; // rows that are there at once: more than a screen has
export const LISTING_PAGE = 200; // rows, of one request
const LISTING_ROWS_MAX = 2_000; // in memory

/** Where a page begins: behind the row with this name, or this place. @typedef {Pick<Row, "name" | "place">} Cursor */

/** @callback LoadRows
 * @param {Cursor | null} behind  null: from the beginning
 * @param {number} limit
 * @returns {Promise<{rows: Row[], more: boolean, id: string, end?: Cursor}>}  `id`: as of which the rows are; `end`: behind
 *   which the next page begins, if that is not the last one of the rows */

export class Listing {
  /** What is in memory; without a gap. @type {Row[]} */
  rows = [];
  /** Whether there are rows below. */
  more = true;
  /** The id as of which the first page was read. */
  id = "";

  #load;
  #compare;
  /** The pages above, which were dropped, from the top. @type {{count: number, from: Cursor | null, to: Cursor}[]} */
  #above = [];
  /** Behind which the rows below begin. @type {Cursor | null} */
  #end = null;
  /** @type {Map<string, Row>} */
  #names = new Map();
  /** @type {Promise<unknown> | null} */
  #loading = null;
  #generation = 0;

  /** @param {LoadRows} load @param {(a: Row, b: Row) => number} compare  the order of the rows */
  constructor(load, compare) {
    this.#load = load;
    this.#compare = compare;
  }

  /** How many rows were dropped above. */
  get offset() {
    return this.#above.reduce((sum, each) => sum + each.count, 0);
  }

  get length() {
    return this.offset + this.rows.length;
  }

  get names() {
    return this.#names;
  }

  /** @param {number} index  from the beginning of the list */
  at(index) {
    return this.rows[index - this.offset];
  }

  /** Reads the first page, and forgets everything else. Returns false if another call was faster. */
  async begin() {
    const generation = ++this.#generation;
    const page = await this.#load(null, LISTING_FIRST);
    if (generation !== this.#generation) return false;
    this.#above = [];
    this.id = page.id;
    this.#replace(page);
    return true;
  }

  /** Reads what is in memory again, from the page on that has the row `first`, at least as far as `last` (indexes from
   * the beginning): where somebody is, the list stays. */
  async again(first = 0, last = 0) {
    const generation = ++this.#generation;
    this.#dropAbove(first);
    const limit = Math.min(Math.max(LISTING_PAGE, last - this.offset + LISTING_PAGE / 2), 1_000);
    const page = await this.#load(this.#above.at(-1)?.to ?? null, limit);
    if (generation !== this.#generation) return false;
    this.#replace(page);
    return true;
  }

  /** Reads one more page below. `first`: the index of the first row that is shown, which is not dropped. Returns whether
   * there are other rows now. @param {number} first */
  async extend(first) {
    if (!this.more || !this.#end) return false;
    return this.#once(async () => {
      const generation = this.#generation;
      const page = await this.#load(this.#end, LISTING_PAGE);
      if (generation !== this.#generation) return false;
      const rows = page.rows.filter((each) => !this.#names.has(each.name));
      this.rows = this.rows.concat(rows);
      for (const each of rows) this.#names.set(each.name, each);
      this.more = page.more;
      this.#end = page.end ?? cursorOf(page.rows.at(-1)) ?? this.#end;
      this.#dropAbove(first);
      return true;
    });
  }

  /** Reads the page above again that was dropped last. Returns by how many rows the list is longer than before; the view
   * scrolls by these, so that nothing that is shown moves. */
  async back() {
    const page = this.#above.at(-1);
    if (!page) return 0;
    return this.#once(async () => {
      const generation = this.#generation;
      const { rows } = await this.#load(page.from, page.count);
      if (generation !== this.#generation) return 0;
      const [first] = this.rows;
      const missing = rows.filter((each) => !this.#names.has(each.name) && (!first || this.#compare(each, first) < 0));
      this.#above.pop();
      for (const each of missing) this.#names.set(each.name, each);
      this.rows = missing.concat(this.rows);
      this.trim();
      return missing.length - page.count;
    });
  }

  /** Puts rows at their places: those that are new, and those that have a place already. @param {Row[]} moved */
  place(moved) {
    const names = new Set(moved.map((each) => each.name));
    const rows = this.rows.filter((each) => !names.has(each.name));
    for (const each of moved) this.#names.set(each.name, each);
    this.rows = merge(moved.sort(this.#compare), rows, this.#compare);
    this.trim();
  }

  /** Whether the place of this row is within what is in memory. @param {Row} row */
  covers(row) {
    const [first] = this.rows;
    const last = this.rows.at(-1);
    const above = !first || !this.#above.length || this.#compare(row, first) > 0;
    return above && (!this.more || (last !== undefined && this.#compare(row, last) < 0));
  }

  /** Drops what is too much at the end. */
  trim() {
    if (this.rows.length <= LISTING_ROWS_MAX) return;
    for (const each of this.rows.splice(LISTING_ROWS_MAX)) this.#names.delete(each.name);
    this.#end = cursorOf(this.rows.at(-1));
    this.more = true;
  }

  /** @param {{rows: Row[], more: boolean, end?: Cursor}} page */
  #replace({ rows, more, end }) {
    this.rows = rows;
    this.more = more;
    this.#end = end ?? cursorOf(rows.at(-1));
    this.#names = new Map(rows.map((each) => [each.name, each]));
  }

  /** Drops whole pages above the one before the row `first`, if there is too much. @param {number} first */
  #dropAbove(first) {
    while (this.rows.length > LISTING_ROWS_MAX / 2 && first - this.offset > 2 * LISTING_PAGE) {
      const dropped = this.rows.splice(0, LISTING_PAGE);
      for (const each of dropped) this.#names.delete(each.name);
      const to = /** @type {Cursor} */ (cursorOf(dropped.at(-1)));
      this.#above.push({ count: dropped.length, from: this.#above.at(-1)?.to ?? null, to });
    }
  }

  /** One request at a time. @template T @param {() => Promise<T>} run @returns {Promise<T | false>} */
  async #once(run) {
    if (this.#loading) return false;
    const loading = run();
    this.#loading = loading;
    try {
      return await loading;
    } finally {
      this.#loading = null;
    }
  }
}

/** A row changes, and where it was does not. @param {Row} [row] @returns {Cursor | null} */
function cursorOf(row) {
  return row ? { name: row.name, place: row.place } : null;
}

/** Two lists in order as one. @param {Row[]} a @param {Row[]} b @param {(a: Row, b: Row) => number} compare */
function merge(a, b, compare) {
  /** @type {Row[]} */
  const merged = [];
  let index = 0;
  for (const each of b) {
    while (index < a.length && compare(a[index], each) <= 0) merged.push(a[index++]);
    merged.push(each);
  }
  return merged.concat(a.slice(index));
}
