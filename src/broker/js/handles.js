// The handles: what a page holds of the values, and how it is notified of what has changed.

import { Collection } from "./collection.js";
import { Event } from "./event.js";
import { Recent } from "./recent.js";

/** @import { Connection } from "./connection.js" */
/** @import { Handle } from "./handle.js" */
/** @import { Values } from "./values.js" */

/** What the server refuses in a name. One such name would cause it to refuse the stream of the whole page. */
const NEVER = /^\$|[*\0-\x1f\x7f-\x9f\ud800-\udfff]/u;
const NEVER_WHOLE = /^(|error|open|(.*\/)?\.\.?(\/.*)?)$/;
const HIDDEN_MS = 1_000; // between two notifications of a page that nobody sees

export class Handles {
  /** Handles live as long as somebody holds or watches them. @type {Map<string, WeakRef<Event>>} */
  #events = new Map();
  /** @type {Map<string, WeakRef<Collection>>} */
  #collections = new Map();
  /** @type {Set<Handle>} */
  #active = new Set();
  /** @type {Set<Handle>} */
  #dirty = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {Values} values @param {Connection} connection */
  constructor(values, connection) {
    this.#values = values;
    this.#connection = connection;
  }
  #values;
  #connection;

  /** @param {string} name @returns {Event} */
  event(name) {
    if (NEVER.test(name) || NEVER_WHOLE.test(name) || encodeURI(name).replace(/%../g, "x").length > 255) throw new TypeError(`no event can be called ${JSON.stringify(name)}`);
    return held(this.#events, name, () => new Event(this.#values, name));
  }

  /** @param {string} prefix @param {boolean} deep @param {number} last @returns {Collection} */
  events(prefix, deep, last) {
    if (NEVER.test(prefix)) throw new TypeError(`no names begin with ${JSON.stringify(prefix)}; a * is not needed at the end`);
    const values = this.#values;
    const make = () => (last ? new Recent(values, prefix, deep, last) : new Collection(values, prefix, deep));
    return held(this.#collections, `${deep} ${last} ${prefix}`, make);
  }

  /** The long lists. */
  recent() {
    return [...this.#collections.values()].map((each) => each.deref()).filter((each) => each instanceof Recent);
  }

  /** @param {Handle} handle @returns {() => void} */
  watch(handle) {
    this.#active.add(handle);
    const release = this.#connection.want(handle.filter);
    return () => {
      release();
      if (!handle.watched) this.#active.delete(handle);
    };
  }

  /** Something about this event has changed. @param {string} name */
  change(name) {
    for (const reference of [this.#events.get(name), ...this.#collections.values()]) {
      const handle = reference?.deref();
      if (handle?.concerns(name)) {
        handle.change(name);
        if (this.#active.has(handle)) this.#dirty.add(handle);
      }
    }
    if (this.#dirty.size) this.#schedule();
  }

  /** Changes that the stream brings are shown with the next frame of the screen, all of them in one step. */
  #schedule() {
    if (this.#timer !== undefined) return;
    const page = globalThis.document;
    const timer = (this.#timer = setTimeout(() => this.flush(), page ? HIDDEN_MS : 0));
    // A hidden page has no frames, and a page that is hidden meanwhile does not get the one that was promised.
    if (page?.visibilityState === "visible")
      requestAnimationFrame(() => this.#timer === timer && this.flush());
  }

  /** Notifies those who watch what has changed, at once. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    for (const handle of dirty) handle.refresh();
  }

  /** The state of every handle may have changed. */
  refresh() {
    for (const handle of [...this.#active]) handle.refresh();
  }

  close() {
    clearTimeout(this.#timer);
    this.#active.clear();
  }
}

/** Returns the handle that is there already, because the same name gives the same object, or makes it.
 * @template {Handle} T @param {Map<string, WeakRef<Handle>>} all @param {string} key @param {() => T} make @returns {T} */
function held(all, key, make) {
  let handle = /** @type {T | undefined} */ (all.get(key)?.deref());
  if (!handle) {
    handle = make();
    all.set(key, new WeakRef(handle));
    if (all.size % 1_000 === 0) for (const [other, reference] of all) if (!reference.deref()) all.delete(other);
  }
  return handle;
}
