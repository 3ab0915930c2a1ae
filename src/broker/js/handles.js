// What a page holds: an event, or the events of a prefix. Each handle is a store.

import { Watchers, call, deferred } from "./store.js";
import { seconds } from "./write.js";

/** @import { Collection as CollectionContract, Event as EventContract, LogOptions, Store, Time, WriteOptions } from "./types.js" */
/** @import { Values } from "./values.js" */

/** What an event and a collection have in common. @abstract */
export class Handle {
  /** @type {Watchers<[any]>} */
  #watchers = new Watchers();
  /** @type {Watchers<[any]>} */
  #stateWatchers = new Watchers();
  #count = 0;
  #changed = false;
  /** @type {any} */
  #state;
  /** @type {any} */
  #notified;
  /** @type {{promise: Promise<any>, resolve: (value: any) => void, reject: (error: any) => void, end?: () => void} | undefined} */
  #ready;

  /** @param {Values} values @param {string} filter */
  constructor(values, filter) {
    this.values = values;
    this.filter = filter;
  }

  /** @returns {any} */
  get = () => undefined;

  /** @param {(value: any) => void} run */
  subscribe = (run) => {
    const end = this.watch(this.#watchers, run);
    call(() => run(this.get()));
    return end;
  };

  /** @type {Store<any>} */
  state = {
    get: () => {
      const state = this.describe();
      const same = this.#state && JSON.stringify(state) === JSON.stringify(this.#state);
      return same && state.error === this.#state.error ? this.#state : (this.#state = state);
    },
    subscribe: (run) => {
      const end = this.watch(this.#stateWatchers, run);
      this.#notified ??= this.state.get();
      call(() => run(this.state.get()));
      return end;
    },
  };

  get watched() {
    return this.#count > 0;
  }

  get ready() {
    if (!this.#ready) {
      const { promise, resolve, reject } = deferred();
      this.#ready = { promise, resolve, reject };
      this.#ready.end = this.watch(new Watchers(), () => {});
      this.#settle();
    }
    return this.#ready.promise;
  }

  /** @param {Watchers<any>} watchers @param {(...values: any[]) => void} run */
  watch(watchers, run) {
    const end = watchers.add(run);
    if (this.#count++ === 0) this.forget();
    const release = this.values.watch(this);
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      end();
      this.#count--;
      release();
    };
  }

  /** @param {string} _name @returns {boolean} */
  concerns(_name) {
    return false;
  }

  /** @param {string} _name */
  change(_name) {
    this.#changed = true;
  }

  /** Who begins to watch has seen what there is. */
  forget() {
    this.#changed = false;
  }

  /** @returns {any} */
  describe() {
    return this.values.status(this.filter);
  }

  /** Notifies those who watch, if there is something new. */
  refresh() {
    const state = this.state.get();
    if (this.#changed) {
      this.#changed = false;
      this.notify(this.#watchers);
    }
    if (state !== this.#notified) {
      this.#notified = state;
      this.#stateWatchers.notify(state);
    }
    this.#settle();
  }

  /** @param {Watchers<[any]>} watchers */
  notify(watchers) {
    watchers.notify(this.get());
  }

  #settle() {
    // Once it is settled, no value must be made for it, which can be a large copy.
    if (!this.#ready?.end) return;
    const { status, error } = this.describe();
    if (status === "loading") return;
    if (status === "denied") this.#ready.reject(error);
    else this.#ready.resolve(this.get());
    this.#ready.end();
    this.#ready.end = undefined;
  }
}

/** One event. @implements {EventContract<any>} */
export class Event extends Handle {
  /** @param {Values} values @param {string} name */
  constructor(values, name) {
    super(values, name);
    this.name = name;
    this.#value = this.get();
  }

  /** As of the last change. @type {any} */
  #value;

  get = () => this.values.view(this.name);

  /** @param {string} name */
  concerns(name) {
    return name === this.name;
  }

  /** What the stream brings of this client's own writes is shown already. @param {string} name */
  change(name) {
    if (this.#value === (this.#value = this.get())) return;
    super.change(name);
  }

  describe() {
    const record = this.values.record(this.name);
    return {
      ...this.values.status(this.name),
      exists: this.get() !== undefined,
      pending: this.values.outbox.overlays(this.name).length,
      ...(record && { id: record.id, by: record.user, ...(record.published_at && { at: 1_000 * record.published_at }) }),
    };
  }

  /** @param {any} data @param {WriteOptions} [options] */
  set(data, options) {
    return this.values.outbox.set(this.name, data, options);
  }

  /** @param {any} changes */
  patch(changes) {
    return this.values.outbox.patch(this.name, changes);
  }

  /** @param {(data: any) => any} change */
  update(change) {
    return this.values.outbox.update(this.name, change);
  }

  /** @param {WriteOptions} [options] @returns {any} */
  remove(options) {
    return this.values.outbox.set(this.name, null, options);
  }

  /** @param {LogOptions} [options] */
  log({ limit = 50, before } = {}) {
    const path = `collections/${encodeURIComponent(this.name)}?order=desc&limit=${limit}`;
    return this.values.session.pages(before ? `${path}&after=${before}` : path);
  }

  /** @param {Time} time */
  async at(time) {
    const query = new URLSearchParams({ event: this.name, at: String(seconds(time)) });
    const { records } = await this.values.session.read(`snapshot?${query}`);
    return records[0]?.data;
  }

  undo() {
    return this.values.outbox.history.undo(this.name);
  }

  redo() {
    return this.values.outbox.history.redo(this.name);
  }
}

/** The events that begin with a prefix. @implements {CollectionContract<any>} */
export class Collection extends Handle {
  /** @type {Map<string, any>} */
  #live = new Map();
  /** @type {ReadonlyMap<string, any> | undefined} */
  #copy;
  /** The keys that have changed since the last notification. @type {Set<string>} */
  #keys = new Set();
  /** @type {Watchers<[ReadonlySet<string>, ReadonlyMap<string, any>]>} */
  #changes = new Watchers();

  /** @param {Values} values @param {string} prefix @param {boolean} deep */
  constructor(values, prefix, deep) {
    super(values, `${prefix}*`);
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
    /** @type {ReadonlyMap<string, any> | undefined} */
    let from;
    /** @type {[string, any][]} */
    let list = [];
    const get = () => {
      if (from !== this.get()) {
        from = this.get();
        list = [...from];
        if (sort) list.sort(sort);
        list = list.slice(0, limit);
      }
      return list;
    };
    return { get, subscribe: (run) => this.subscribe(() => run(get())) };
  }

  /** @param {string} name */
  concerns(name) {
    return name.startsWith(this.prefix) && (this.deep || !name.includes("/", this.prefix.length));
  }

  /** @param {string} name */
  change(name) {
    const key = name.slice(this.prefix.length);
    const data = this.values.view(name);
    if (data === undefined) this.#live.delete(key);
    else this.#live.set(key, data);
    this.#copy = undefined;
    this.#keys.add(key);
    super.change(name);
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
    if (watchers.size) super.notify(watchers);
  }

  describe() {
    return { ...this.values.status(this.filter), pending: this.values.outbox.pending(this.prefix) };
  }

  /** Without `last`, all events are here. */
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
    return this.values.outbox.set(this.prefix + key, data, options);
  }

  /** @param {string} key @param {any} changes */
  patch(key, changes) {
    return this.values.outbox.patch(this.prefix + key, changes);
  }

  /** @param {string} key @param {(data: any) => any} change */
  update(key, change) {
    return this.values.outbox.update(this.prefix + key, change);
  }

  /** @param {string} key @param {WriteOptions} [options] @returns {any} */
  remove(key, options) {
    return this.values.outbox.set(this.prefix + key, null, options);
  }
}
