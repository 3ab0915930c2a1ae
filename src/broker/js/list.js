// A list: the entries of a collection in an order, kept up to date change by change, because to sort 100,000 entries anew
// takes longer than a frame of the screen.

const REBUILD = 20; // if more than a twentieth has changed, sorting anew is faster

/** @typedef {[string, any]} Entry */

export class List {
  /** The first entries, as they are shown: the same array as long as they are the same entries. @type {Entry[]} */
  shown = [];
  /** All entries, in order. @type {Entry[]} */
  #all = [];
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  #compare;
  #limit;

  /** @param {((a: Entry, b: Entry) => number) | undefined} sort @param {number} limit */
  constructor(sort, limit) {
    this.#limit = limit;
    // What is equal is ordered by key, so that the order does not depend on what came first.
    this.#compare = sort && ((/** @type {Entry} */ a, /** @type {Entry} */ b) => sort(a, b) || (a[0] < b[0] ? -1 : Number(a[0] > b[0])));
  }

  /** @param {ReadonlyMap<string, any>} live @param {ReadonlySet<string>} [keys]  those that may have changed, if it is known */
  update(live, keys) {
    const compare = this.#compare;
    if (!compare || !keys || REBUILD * keys.size > live.size) {
      this.#all = [...live];
      if (compare) this.#all.sort(compare);
      this.#entries = new Map(this.#all.map((entry) => [entry[0], entry]));
    } else for (const key of keys) this.#change(key, live, compare);
    const shown = this.#all.slice(0, this.#limit);
    if (shown.length !== this.shown.length || shown.some((entry, index) => entry !== this.shown[index])) this.shown = shown;
  }

  /** @param {string} key @param {ReadonlyMap<string, any>} live @param {(a: Entry, b: Entry) => number} compare */
  #change(key, live, compare) {
    const old = this.#entries.get(key);
    if (old) {
      this.#entries.delete(key);
      // An order that contradicts itself (`a.n - b.n` where a field is missing) does not lead to the entry.
      const at = this.#find(old, compare);
      this.#all.splice(this.#all[at] === old ? at : this.#all.indexOf(old), 1);
    }
    if (!live.has(key)) return;
    /** @type {Entry} */
    const entry = old && old[1] === live.get(key) ? old : [key, live.get(key)];
    this.#entries.set(key, entry);
    this.#all.splice(this.#find(entry, compare), 0, entry);
  }

  /** Where an entry is, or where it belongs. @param {Entry} entry @param {(a: Entry, b: Entry) => number} compare */
  #find(entry, compare) {
    let [low, high] = [0, this.#all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.#all[middle], entry) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
