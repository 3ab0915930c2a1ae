// What is known of one event, and follows the server: its newest version, what is pending, and what the reader may do.

import { readVersions } from "./version.js";

/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */

const PENDING_MAX = 100; // that are listed
const REMOVAL_MAX = 20; // versions among which the one that has removed the event, and the last value, are looked for
const PAUSE_MS = 200; // between two readings of an event that changes all the time
const RETRY_READING_MS = 2_000; // after a reading that has failed

/** @typedef {{read: boolean, insert: boolean, remove: boolean, cancel: boolean | "own", log: boolean}} EventRights
 *
 * `removal` is the version that has removed the event, if it is known, and `last` the value before it. `error` is why nothing can be read.
 * @typedef {object} EventFacts
 * @property {boolean} known
 * @property {EventRights} rights
 * @property {VersionRecord | null} latest
 * @property {VersionRecord | null} removal
 * @property {VersionRecord | null} last
 * @property {VersionRecord[]} pending
 * @property {string} error */

const NO_RIGHTS = { read: false, insert: false, remove: false, cancel: false, log: false };

export class Subject {
  #ctx;
  /** @type {Set<(facts: EventFacts) => void>} */
  #watchers = new Set();
  /** @type {EventFacts} */
  #facts = { known: false, rights: NO_RIGHTS, latest: null, removal: null, last: null, pending: [], error: "" };
  #reading = false;
  #again = false;
  #seen = "";
  #scheduled = "";
  /** What was asked for before the last write may be older than it. */
  #writes = 0;
  #written = "";

  /** @param {Context} ctx @param {string} name */
  constructor(ctx, name) {
    this.#ctx = ctx;
    this.name = name;
    this.path = encodeURIComponent(name);
    ctx.watch(ctx.broker.event(name).state, ({ status, id, exists }) => {
      if (this.#seen !== (this.#seen = `${status} ${id} ${exists}`)) this.refresh();
    });
    if (this.user)
      ctx.watch(ctx.broker.schedule, (all) => {
        const mine = all.filter((each) => each.event === name).map((each) => each.uuid).join();
        if (this.#scheduled !== (this.#scheduled = mine)) this.refresh();
      });
  }

  /** Whose session has ended reads what everybody may read. */
  get user() {
    const user = this.#ctx.broker.user.get();
    return user && !user.expired ? user.username : null;
  }

  get = () => this.#facts;

  /** @param {(facts: EventFacts) => void} run */
  subscribe = (run) => {
    this.#watchers.add(run);
    run(this.#facts);
    return () => void this.#watchers.delete(run);
  };

  /** Something was written through this screen. @param {string | null} id  of the version, if it is published */
  wrote(id) {
    this.#writes++;
    this.#written = id ?? this.#written;
    return this.refresh();
  }

  /** Reads everything again. What changes while it is read is read after that. */
  async refresh() {
    this.#again = true;
    if (this.#reading) return;
    this.#reading = true;
    try {
      while (this.#again && !this.#ctx.signal.aborted) {
        this.#again = false;
        const writes = this.#writes;
        const facts = await this.#read().catch((error) => ({ ...this.#facts, error: String(error.message) }));
        if (writes !== this.#writes) continue;
        this.#set(facts);
        this.#again ||= Boolean(facts.error);
        await new Promise((resolve) => setTimeout(resolve, facts.error ? RETRY_READING_MS : PAUSE_MS));
      }
    } finally {
      this.#reading = false;
    }
  }

  /** @param {EventFacts} facts */
  #set(facts) {
    if (this.#ctx.signal.aborted) return;
    if (this.#facts.rights.read && !facts.rights.read) return this.#ctx.renew();
    this.#facts = facts;
    for (const run of [...this.#watchers]) run(facts);
  }

  /** @returns {Promise<EventFacts>} */
  async #read() {
    const { api, broker } = this.#ctx;
    /** @type {EventRights} */
    const rights = await (await api.get(`rights?event=${this.path}`)).json();
    // Another node may be behind the one that sends the stream, and behind the one that has stored the last write.
    const id = laterId(broker.position, this.#written);
    const as = id ? `&last_event_id=${encodeURIComponent(id)}` : "";
    const [latest = null, pending] = await Promise.all([
      rights.read ? this.#versions(`snapshot?event=${this.path}${as}`).then(([each]) => each) : null,
      this.user ? this.#versions(`pending?event=${this.path}&limit=${PENDING_MAX}`) : [],
    ]);
    let removal = null;
    let last = null;
    if (!latest && rights.log && this.user) {
      const log = await this.#versions(`collections/${this.path}?order=desc&limit=${REMOVAL_MAX}`);
      removal = log.find((each) => each.id !== null) ?? null;
      last = log.find((each) => each.id !== null && each.data !== "null") ?? null;
    }
    return { known: true, rights, latest, removal, last, pending, error: "" };
  }

  /** @param {string} path */
  async #versions(path) {
    return readVersions(await (await this.#ctx.api.get(path)).text());
  }
}

/** Of two ids of the same log, the one with the larger number is later (docs/http.md). @param {string} one @param {string} other */
function laterId(one, other) {
  const [, log, number] = /^(.*)-(\d+)$/.exec(one) ?? [];
  const [, otherLog, otherNumber] = /^(.*)-(\d+)$/.exec(other) ?? [];
  return log === otherLog && Number(otherNumber) > Number(number) ? other : one || other;
}

/** As far as is known to somebody who may read the event. @param {EventFacts} facts */
export const wasNeverThere = ({ rights, latest, removal }) => rights.read && !latest && !removal;
