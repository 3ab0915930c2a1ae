// The parts of which everything that can be watched is made.

/** @import { Store } from "./types.js" */

/** Those who watch a value. @template {unknown[]} T */
export class Watchers {
  /** @type {Set<{run: (...values: T) => void}>} */
  #all = new Set();

  /** @param {(...values: T) => void} run @returns {() => void} */
  add(run) {
    const each = { run };
    this.#all.add(each);
    return () => void this.#all.delete(each);
  }

  get size() {
    return this.#all.size;
  }

  /** @param {T} values */
  notify(...values) {
    for (const { run } of [...this.#all]) call(() => run(...values));
  }
}

/** Calls a function of the page. Its errors are reported, and disturb nobody else. @param {() => void} run */
export function call(run) {
  try {
    run();
  } catch (error) {
    if (typeof reportError === "function") reportError(error);
    else console.error(error);
  }
}

/** A single value that can be watched. @template T @implements {Store<T>} */
export class Cell {
  #value;
  /** @type {Watchers<[T]>} */
  #watchers = new Watchers();

  /** @param {T} value */
  constructor(value) {
    this.#value = value;
  }

  get = () => this.#value;

  /** @param {(value: T) => void} run */
  subscribe = (run) => {
    const end = this.#watchers.add(run);
    call(() => run(this.#value));
    return end;
  };

  /** @param {T} value */
  set(value) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    this.#watchers.notify(value);
  }
}

/** A value that is made up when it is asked for after a change. Those who watch it are notified once in a turn, unless the
 * same is made up again.
 * @template T @implements {Store<T>} */
export class Derived {
  #make;
  /** @type {{value: T} | undefined} */
  #made;
  /** @type {Watchers<[T]>} */
  #watchers = new Watchers();
  #notifying = false;
  /** @type {T | undefined} */
  #notified;

  /** @param {() => T} make */
  constructor(make) {
    this.#make = make;
  }

  get = () => (this.#made ??= { value: this.#make() }).value;

  /** @param {(value: T) => void} run */
  subscribe = (run) => {
    if (!this.#watchers.size) this.#notified = this.get();
    const end = this.#watchers.add(run);
    call(() => run(this.get()));
    return end;
  };

  change() {
    this.#made = undefined;
    if (this.#notifying || !this.#watchers.size) return;
    this.#notifying = true;
    queueMicrotask(() => {
      this.#notifying = false;
      if (this.#notified !== (this.#notified = this.get())) this.#watchers.notify(this.#notified);
    });
  }
}

/** A promise that may stay unhandled. */
export function deferred() {
  /** @type {(value: any) => void} */
  let resolve = () => {};
  /** @type {(error: any) => void} */
  let reject = () => {};
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]));
  promise.catch(() => {});
  return { promise, resolve, reject };
}
