// Who else has a form open: each page says so of itself in an event that ends by itself.

/** @import { Event } from "./event.js" */

const LEASE_MS = 60_000; // until a page that has ended without a word is not shown any more
const RENEW_MS = 45_000;

export class Presence {
  /** The last write, while this page says that it has the form open. @type {any} */
  #sent;
  #open = false;

  /** @param {Event} event @param {() => void} changed */
  constructor(event, changed) {
    this.#values = event.values;
    this.#all = event.values.handles.events(`open/${event.name}/`, true, 0);
    this.#key = event.values.outbox.uuid();
    const ends = [this.#all.subscribe(changed), event.values.session.user.subscribe(() => this.renew())];
    const timer = setInterval(() => this.renew(), RENEW_MS);
    this.close = () => {
      clearInterval(timer);
      ends.forEach((end) => end());
      this.leave();
    };
  }
  #values;
  #all;
  #key;

  /** The users, without this page. */
  get users() {
    const keys = [...this.#all.get().keys()].filter((key) => key !== this.#key);
    return [...new Set(keys.map((key) => this.#values.record(this.#all.prefix + key)?.user ?? ""))].filter(Boolean).sort();
  }

  renew() {
    if (document.hidden || !this.#values.session.name) return;
    this.#open = true;
    this.#write(this.#all.set(this.#key, {}, { until: this.#values.session.now() + LEASE_MS }));
  }

  /** A page says only once that it has left, and not without having been there. */
  leave() {
    if (this.#open) this.#write(this.#all.remove(this.#key));
    this.#open = false;
  }

  /** While the server is away, only the last write waits. If it is refused, nobody needs to know. @param {any} sent */
  #write(sent) {
    const { outbox } = this.#values;
    const before = this.#sent;
    this.#sent = sent;
    sent.catch(() => outbox.discard(sent.uuid));
    if (outbox.unsent().some(({ uuid }) => uuid === before?.uuid)) outbox.discard(before.uuid);
  }
}
