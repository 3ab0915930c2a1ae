// The writer: it makes the writes of a page, and puts them into the outbox.

import { copied, difference, merge } from "./patch.js";
import { BrokerError } from "./server.js";
import { deferred } from "./store.js";
import { milliseconds } from "./write.js";

/** @import { EventRecord, Pending, Sent, Time, WriteOptions } from "./types.js" */
/** @import { History } from "./history.js" */
/** @import { Outbox } from "./outbox.js" */
/** @import { Server } from "./server.js" */
/** @import { Session } from "./session.js" */
/** @import { Values } from "./values.js" */
/** @import { Row } from "./write.js" */

const INEXACT = "the value has a number with more digits than JavaScript can express; set the whole value instead";

export class Writer {
  /** @type {object | undefined} */
  #batch;
  /** @type {Set<ReturnType<typeof setTimeout>>} */
  #endings = new Set();

  /** @param {Server} server @param {Session} session @param {Outbox} outbox @param {Values} values @param {History} history */
  constructor(server, session, outbox, values, history) {
    this.#server = server;
    this.#session = session;
    this.#outbox = outbox;
    this.#values = values;
    this.#history = history;
  }
  #server;
  #session;
  #outbox;
  #values;
  #history;

  /** @param {string} event @param {any} data @param {WriteOptions} [options] */
  set(event, data, options = {}) {
    const value = copied(data);
    return this.#add(event, options, { data: value, apply: () => value });
  }

  /** @param {string} event @param {any} changes */
  patch(event, changes) {
    const frozen = copied(changes);
    const apply = (/** @type {any} */ data) => merge(data, frozen);
    return this.#change(event, (data) => ({ data: apply(data), apply }));
  }

  /** @param {string} event @param {(data: any) => any} change */
  update(event, change) {
    return this.#change(event, (before) => {
      const data = copied(change(before ?? undefined));
      const changes = difference(before, data);
      return { data, apply: changes ? (shown) => merge(shown, changes) : () => data };
    });
  }

  /** Changes the version that the condition names: the last own write, or the newest that the stream has brought. What is
   * shown may be older than the own write, if this was made anew upon a version that the stream has not brought yet; a
   * change of that would undo what others have written. If nothing is known yet, the server says so (412), and sends it
   * along. @param {string} event @param {NonNullable<Row["rebase"]>} rebase */
  #change(event, rebase) {
    const own = this.#outbox.overlays(event).at(-1);
    if (!own && !this.#values.exact(event)) throw new BrokerError(INEXACT);
    const ifLatest = (own ?? this.#values.record(event))?.uuid ?? "none";
    return this.#add(event, { ifLatest }, { ...rebase(own ? own.data : this.#values.view(event)), rebase });
  }

  /** @param {string} event */
  undo(event) {
    const row = this.#history.back(event);
    if (row?.at === undefined) return row && this.#step(event, () => row.before);
    return sentOf(row, this.cancel(row.uuid), async () => {});
  }

  /** @param {string} event */
  redo(event) {
    const row = this.#history.forth(event);
    if (row?.at === undefined) return row && this.#step(event, () => row.data, { until: row.options.until });
    return this.#add(event, row.options, { data: row.data, apply: row.apply, step: true });
  }

  /** A step back or forth, upon a write of this client that must be the latest version. What it writes may still change
   * with that write. @param {string} event @param {() => any} make @param {WriteOptions} [options] */
  #step(event, make, options) {
    const rebase = () => {
      const data = make();
      return { data, apply: () => data };
    };
    return this.#add(event, { ...options, ifLatest: this.#history.head(event) }, { ...rebase(), rebase, step: true });
  }

  /** Gives a pending write another time. @param {Pending} item @param {Time} at */
  move({ uuid, event, data, until }, at) {
    return this.#add(event, { at, until }, { data, apply: () => data, cancels: uuid, batch: {} });
  }

  /** @param {string} event @param {WriteOptions} options
   * @param {Pick<Row, "data" | "apply" | "rebase" | "step" | "cancels" | "batch">} what @returns {Sent<any>} */
  #add(event, options, what) {
    const outbox = this.#outbox;
    this.#session.follow(); // another tab may have logged in just now
    const known = this.#values.knows(event) || outbox.overlays(event).length;
    /** @type {Row} */
    const row = {
      batch: this.#batch, ...what, ...deferred(), uuid: outbox.uuid(), event, json: "", options, user: this.#session.name,
      state: "queued", tries: 0, before: known ? this.#values.view(event) ?? null : undefined,
    };
    if (options.at !== undefined) row.at = milliseconds(options.at);
    if (options.until !== undefined) {
      const until = (row.until = milliseconds(options.until));
      row.apply = (data) => (this.#session.now() < until ? what.apply(data) : null);
      this.#touchAt(until, event);
    }
    this.#history.add(row);
    outbox.add(row);
    return sentOf(row, row.promise, () => this.cancel(row.uuid));
  }

  /** A version ends by itself. @param {number} time @param {string} event */
  #touchAt(time, event) {
    const timer = setTimeout(() => {
      this.#endings.delete(timer);
      this.#values.touch(event);
    }, Math.min(time - this.#session.now() + 2, 2 ** 31 - 1));
    this.#endings.add(timer);
  }

  /** Withdraws a write of this client, or what else is pending. @param {string} uuid @returns {Promise<any>} */
  async cancel(uuid) {
    const outbox = this.#outbox;
    const row = outbox.find(uuid);
    if (row?.state === "queued" && row.tries === 0) {
      outbox.drop(row);
      return row.cancels ? this.cancel(row.cancels) : { id: null, published_at: null, ...JSON.parse(row.json) };
    }
    const user = this.#session.name;
    const { uuid: stored } = (await row?.promise) ?? { uuid };
    const token = await this.#session.fresh();
    if (user !== this.#session.name) throw new BrokerError("another user is logged in now");
    const record = await this.#server.call(`cancel/${stored}`, token);
    outbox.schedule.cancelled(stored);
    return record;
  }

  /** @param {() => void} write @returns {Promise<EventRecord[]>} */
  batch(write) {
    const batch = (this.#batch = {});
    try {
      write();
    } catch (error) {
      // A batch that was not written to its end is not sent.
      this.#outbox.batch(batch).forEach((row) => this.#outbox.drop(row));
      throw error;
    } finally {
      this.#batch = undefined;
    }
    const rows = this.#outbox.batch(batch);
    const bad = rows.find((row) => row.error);
    if (bad?.error) this.#outbox.refuse(bad, bad.error);
    const promise = Promise.all(rows.map((row) => row.promise));
    promise.catch(() => {});
    return promise;
  }

  close() {
    this.#endings.forEach(clearTimeout);
  }
}

/** @param {Row} row @param {Promise<any>} promise @param {() => Promise<any>} cancel @returns {any} */
function sentOf(row, promise, cancel) {
  const sent = Object.assign(promise, { event: row.event, cancel });
  return Object.defineProperty(sent, "uuid", { get: () => row.uuid });
}
