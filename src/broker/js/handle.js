// A handle: what a page holds, and watches.

import { Watchers, call, deferred } from "./store.js";

/** @import { Store } from "./types.js" */
/** @import { Values } from "./values.js" */

/** What an event, a collection and the schedule have in common. @abstract */
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
  #checking = false;
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
      if (!this.#stateWatchers.size) this.#notified = this.state.get();
      const end = this.watch(this.#stateWatchers, run);
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
    const release = this.values.handles.watch(this);
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
    if (this.#changed) {
      this.#changed = false;
      this.notify(this.#watchers);
    }
    this.#settle();
    if (this.#checking || !this.#stateWatchers.size) return;
    // Once in a turn: the state counts all writes under way, so a page that writes 20,000 would wait for a minute.
    this.#checking = true;
    queueMicrotask(() => {
      this.#checking = false;
      if (this.#notified === (this.#notified = this.state.get())) return;
      this.#stateWatchers.notify(this.#notified);
    });
  }

  /** @param {Watchers<[any]>} watchers */
  notify(watchers) {
    if (watchers.size) watchers.notify(this.get());
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
