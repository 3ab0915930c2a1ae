// A collection: the events that begin with a prefix.

import { Handle } from "./handle.js";
import { List } from "./list.js";
import { Watchers, call } from "./store.js";

/** @import { Collection as CollectionContract, Store, WriteOptions } from "./types.js" */
/** @import { Values } from "./values.js" */

/** @implements {CollectionContract<any>} */
export class Collection extends Handle {
  /** @type {Map<string, any>} */
  #live = new Map();
  /** @type {ReadonlyMap<string, any> | undefined} */
  #copy;
  /** Grows with each change. */
  #version = 0;
  /** The keys that have changed, for each list that is watched. @type {Set<Set<string>>} */
  #lists = new Set();
  /** The keys that have changed since the last notification. @type {Set<string>} */
  #keys = new Set();
  /** @type {Watchers<[ReadonlySet<string>, ReadonlyMap<string, any>]>} */
  #changes = new Watchers();

  /** @param {Values} values @param {string} prefix @param {boolean} deep @param {string} [filter] */
  constructor(values, prefix, deep, filter = `${prefix}*`) {
    super(values, filter);
    /** @type {string} */
    this.prefix = prefix;
    /** @type {boolean} */
    this.deep = deep;
    for (const name of values.names(prefix)) if (this.concerns(name)) this.change(name);
  }

  /** A copy, because a map that changes under the hands of a page cannot be compared with the one before. */
  get = () => (this.#copy ??= new Map(this.#live));

  /** @param {(keys: ReadonlySet<string>, all: ReadonlyMap<string, any>) => void} run */
  changes(run) {
    const end = this.watch(this.#changes, run);
    call(() => run(new Set(this.#live.keys()), this.#live));
    return end;
  }

  /** @param {{sort?: (a: [string, any], b: [string, any]) => number, limit?: number}} [options]
   * @returns {Store<[string, any][]>} */
  list({ sort, limit = Infinity } = {}) {
    const list = new List(sort, limit);
    /** While the list is watched: the keys that have changed since it was made up. @type {Set<string> | undefined} */
    let keys;
    let version = -1;
    let count = 0;
    const get = () => {
      if (version !== this.#version) list.update(this.#live, keys);
      version = this.#version;
      keys?.clear();
      return list.shown;
    };
    /** @type {Store<[string, any][]>["subscribe"]} */
    const subscribe = (run) => {
      /** @type {unknown} */
      let last;
      if (count++ === 0) {
        get();
        this.#lists.add((keys = new Set()));
      }
      const end = this.changes(() => {
        if (last !== (last = get())) run(list.shown);
      });
      return () => {
        end();
        if (keys && --count === 0) {
          this.#lists.delete(keys);
          keys = undefined;
        }
      };
    };
    return { get, subscribe };
  }

  /** @param {string} name */
  concerns(name) {
    return name.startsWith(this.prefix) && (this.deep || !name.includes("/", this.prefix.length));
  }

  /** @param {string} name */
  change(name) {
    const key = name.slice(this.prefix.length);
    const data = this.look(name);
    if (data === this.#live.get(key)) return;
    if (data === undefined) this.#live.delete(key);
    else this.#live.set(key, data);
    this.#copy = undefined;
    this.#version++;
    for (const keys of [this.#keys, ...this.#lists]) keys.add(key);
    super.change(name);
  }

  /** What is shown of an event. @param {string} name */
  look(name) {
    return this.values.view(name);
  }

  forget() {
    this.#keys = new Set();
    super.forget();
  }

  /** @param {Watchers<[any]>} watchers */
  notify(watchers) {
    const keys = this.#keys;
    this.#keys = new Set();
    this.#changes.notify(keys, this.#live);
    super.notify(watchers);
  }

  describe() {
    return { ...this.values.status(this.filter), pending: this.values.outbox.pending(this.prefix) };
  }

  /** Without `last`, all events are here. @returns {Promise<boolean>} */
  async more() {
    return false;
  }

  /** @param {any} data @param {WriteOptions} [options] */
  add(data, options) {
    const key = this.values.outbox.uuid();
    return Object.assign(this.set(key, data, options), { key });
  }

  /** @param {string} key @param {any} data @param {WriteOptions} [options] */
  set(key, data, options) {
    return this.values.writer.set(this.prefix + key, data, options);
  }

  /** @param {string} key @param {any} changes */
  patch(key, changes) {
    return this.values.writer.patch(this.prefix + key, changes);
  }

  /** @param {string} key @param {(data: any) => any} change */
  update(key, change) {
    return this.values.writer.update(this.prefix + key, change);
  }

  /** @param {string} key @param {WriteOptions} [options] @returns {any} */
  remove(key, options) {
    return this.values.writer.set(this.prefix + key, null, options);
  }
}
