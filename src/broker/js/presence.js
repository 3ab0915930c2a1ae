// Who else has a form open: each page says so of itself in an event `open/FORM/USER/PAGE`, which ends by itself. A rule can
// see to it that nobody says so of somebody else.

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
    this.#page = event.values.outbox.uuid();
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
  #page;
  #key = "";

  /** Who has it open in other pages. */
  get users() {
    const keys = [...this.#all.get().keys()].map((key) => key.split("/"));
    return [...new Set(keys.filter(([, page, ...deeper]) => page !== this.#page && !deeper.length).map(([user]) => user))].sort();
  }

  renew() {
    const { session } = this.#values;
    if (document.hidden || !session.name) return;
    this.#open = true;
    this.#key = `${session.name}/${this.#page}`;
    this.#write(this.#all.set(this.#key, {}, { until: session.now() + LEASE_MS }));
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
