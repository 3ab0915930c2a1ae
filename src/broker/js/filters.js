// The filters: which events somebody watches.

const WIDEN_MS = 50; // parts of a page that are mounted one after the other share one request
const NARROW_MS = 30_000; // so a change of route, or a component that is mounted twice, costs nothing
const FILTERS_MAX = 100; // `filters_max` of the server

/** Prefixes match no event of the server's own, which begins with `$`.
 * @param {readonly string[]} filters @param {string} name  an event, or a filter: then whether all of it is covered */
export function covers(filters, name) {
  return filters.some((each) => each === name || (each.endsWith("*") && name[0] !== "$" && name.startsWith(each.slice(0, -1))));
}

/** @param {string} filter */
export const isList = (filter) => /^\$\d/.test(filter);

/** What the server is to be asked for. A long list has a filter of its own (recent.js): `$`, a number, a space, and what to
 * ask for. @param {readonly string[]} filters */
export const asked = (filters) => [...new Set(filters.map((each) => each.replace(/^\$\d\S* /, "")))];

/** Whether the stream brings an event, although perhaps not its state. @param {readonly string[]} filters @param {string} name */
export const brings = (filters, name) => covers(filters, name) || covers(asked(filters), name);

/** All filters that are watched, each as often as it is watched. */
export class Wanted {
  #changed;
  #closed = false;
  /** @type {Map<string, number>} */
  #counts = new Map();
  /** Filters that nobody watches any more, for a while. @type {Map<string, ReturnType<typeof setTimeout>>} */
  #leaving = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #widening;

  /** @param {() => void} changed  a filter was added, or the last one has gone */
  constructor(changed) {
    this.#changed = changed;
  }

  /** Watches a filter until the function that it returns is called. @param {string} filter @returns {() => void} */
  add(filter) {
    clearTimeout(this.#leaving.get(filter));
    this.#leaving.delete(filter);
    this.#counts.set(filter, (this.#counts.get(filter) ?? 0) + 1);
    if (!this.#closed)
      this.#widening ??= setTimeout(() => {
        this.#widening = undefined;
        this.#changed();
      }, WIDEN_MS);
    let done = false;
    return () => {
      if (done) return;
      done = true;
      const count = /** @type {number} */ (this.#counts.get(filter)) - 1;
      this.#counts.set(filter, count);
      if (count === 0 && !this.#closed) this.#leaving.set(filter, setTimeout(() => this.#leave(filter), NARROW_MS));
    };
  }

  /** @param {string} filter */
  #leave(filter) {
    this.#leaving.delete(filter);
    this.#counts.delete(filter);
    // A stream that shows more than is wanted stays as it is until it is opened again for another reason.
    if (this.#counts.size === 0) this.#changed();
  }

  /** Whether somebody watches this event. @param {string} name */
  has(name) {
    return brings([...this.#counts.keys()], name);
  }

  /** The fewest filters that have all that is wanted. */
  get all() {
    let all = [...this.#counts.keys()];
    // A server accepts so many. Beyond that, a folder is watched in place of its events, and at last everything.
    if (all.length > FILTERS_MAX) all = [...new Set(all.map((each) => each.replace(/^([^/*$]*\/).*/, "$1*")))];
    if (all.length > FILTERS_MAX) all = ["*", ...all.filter((each) => each.startsWith("$"))];
    const prefixes = all.filter((each) => each.endsWith("*"));
    return all.filter((each) => !covers(prefixes.filter((other) => other !== each), each));
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#widening);
    this.#leaving.forEach(clearTimeout);
  }
}
