// The outbox: the writes of this client, in their order, until the server has stored or refused each of them.

import { reached, split } from "./frames.js";
import { copied, difference, merge } from "./patch.js";
import { Sender } from "./sender.js";
import { BrokerError } from "./server.js";
import { Watchers, call, deferred } from "./store.js";
import { compose, createUuids, milliseconds, place, shown } from "./write.js";

/** @import { EventRecord, Outgoing, Sent, Store, Time, WriteOptions } from "./types.js" */
/** @import { Connection } from "./connection.js" */
/** @import { History } from "./history.js" */
/** @import { Schedule } from "./schedule.js" */
/** @import { Server } from "./server.js" */
/** @import { Session } from "./session.js" */
/** @import { Values } from "./values.js" */
/** @import { Row } from "./write.js" */

const INEXACT = "the value has a number with more digits than JavaScript can express; set the whole value instead";

export class Outbox {
  /** What the page can see of it. @type {Store<readonly Outgoing[]>} */
  list = {
    get: () => (this.#list ??= [...this.#rows].filter((row) => row.state !== "stored").map(shown)),
    subscribe: (run) => {
      const end = this.#watchers.add(run);
      call(() => run(this.list.get()));
      return end;
    },
  };

  /** In the order in which they were written. A stored row stays until the stream has brought it. @type {Set<Row>} */
  #rows = new Set();
  /** The same by event. @type {Map<string, Set<Row>>} */
  #events = new Map();
  /** Those that are stored, and that the stream has not brought yet. @type {Set<Row>} */
  #stored = new Set();
  /** @type {readonly Outgoing[] | undefined} */
  #list;
  /** @type {Watchers<[readonly Outgoing[]]>} */
  #watchers = new Watchers();
  #notifying = false;
  /** @type {object | undefined} */
  #batch;
  /** @type {Set<ReturnType<typeof setTimeout>>} */
  #endings = new Set();
  // Set by the client, because they need the outbox, too.
  values = /** @type {Values} */ (/** @type {unknown} */ (undefined));
  schedule = /** @type {Schedule} */ (/** @type {unknown} */ (undefined));
  history = /** @type {History} */ (/** @type {unknown} */ (undefined));

  /** @param {Server} server @param {Session} session @param {Connection} connection */
  constructor(server, session, connection) {
    this.#server = server;
    this.#session = session;
    this.#connection = connection;
    this.uuid = createUuids(() => session.now());
    this.sender = new Sender(server, session, this);
  }
  #server;
  #session;
  #connection;

  // Writing.

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

  /** Changes the version that is shown. @param {string} event @param {NonNullable<Row["rebase"]>} rebase */
  #change(event, rebase) {
    if (!this.overlays(event).length && !this.values.exact(event)) throw new BrokerError(INEXACT);
    return this.#add(event, { ifLatest: this.#shown(event) }, { ...rebase(this.values.view(event)), rebase });
  }

  /** A step of `undo` or `redo`, upon a write of this client that must be the latest version. What it writes may still
   * change with that write. @param {Row} head @param {() => any} make @param {WriteOptions} [options] */
  step(head, make, options) {
    const rebase = () => {
      const data = make();
      return { data, apply: () => data };
    };
    return this.#add(head.event, { ...options, ifLatest: head.uuid }, { ...rebase(), rebase, step: true });
  }

  /** Writes for a time, again, what was withdrawn. @param {Row} row */
  again({ event, options, data, apply }) {
    return this.#add(event, options, { data, apply, step: true });
  }

  /** Gives a pending write another time. @param {{uuid: string, event: string, data: any, until?: number}} item @param {Time} at */
  move({ uuid, event, data, until }, at) {
    return this.#add(event, { at, until }, { data, apply: () => data, cancels: uuid, batch: {} });
  }

  /** The version that is shown. If nothing is known yet, the server says so (412), and sends it along.
   * @param {string} event */
  #shown(event) {
    return this.overlays(event).at(-1)?.uuid ?? this.values.record(event)?.uuid ?? "none";
  }

  /** @param {string} event @param {WriteOptions} options
   * @param {Pick<Row, "data" | "apply" | "rebase" | "step" | "cancels" | "batch">} what @returns {Sent<any>} */
  #add(event, options, what) {
    const { name: user } = this.#session;
    const before = this.values.knows(event) || this.overlays(event).length ? this.values.view(event) ?? null : undefined;
    /** @type {Row} */
    const row = {
      batch: this.#batch, ...what, ...deferred(), uuid: this.uuid(), event, json: "", options, user, state: "queued", tries: 0, before,
    };
    if (options.at !== undefined) row.at = milliseconds(options.at);
    if (options.until !== undefined) {
      const until = (row.until = milliseconds(options.until));
      row.apply = (data) => (this.#session.now() < until ? what.apply(data) : null);
      this.#touchAt(until, event);
    }
    compose(row);
    this.#enqueue(row);
    this.history.add(row);
    this.touch([row]);
    // What a page writes in one go is one request.
    queueMicrotask(() => this.sender.run());
    return this.sent(row, row.promise, () => this.cancel(row.uuid));
  }

  /** @param {Row} row @param {Promise<any>} promise @param {() => Promise<any>} cancel @returns {any} */
  sent(row, promise, cancel) {
    const sent = Object.assign(promise, { event: row.event, cancel });
    return Object.defineProperty(sent, "uuid", { get: () => row.uuid });
  }

  /** @param {Row} row */
  #enqueue(row) {
    this.#rows.add(row);
    const rows = this.#events.get(row.event);
    if (rows) rows.add(row);
    else this.#events.set(row.event, new Set([row]));
  }

  /** @param {Row} row */
  #remove(row) {
    this.#rows.delete(row);
    this.#stored.delete(row);
    const rows = this.#events.get(row.event);
    rows?.delete(row);
    if (!rows?.size) this.#events.delete(row.event);
  }

  /** @param {() => void} write @returns {Promise<EventRecord[]>} */
  batch(write) {
    const batch = (this.#batch = {});
    const rows = () => [...this.#rows].filter((row) => row.batch === batch);
    try {
      write();
    } catch (error) {
      // A batch that was not written to its end is not sent.
      rows().forEach((row) => this.#drop(row));
      throw error;
    } finally {
      this.#batch = undefined;
    }
    const promise = Promise.all(rows().map((row) => row.promise));
    promise.catch(() => {});
    return promise;
  }

  /** Withdraws a write of this client, or what else is pending. @param {string} uuid @returns {Promise<any>} */
  async cancel(uuid) {
    const row = this.#find(uuid);
    if (row?.state === "queued" && row.tries === 0) {
      this.#drop(row);
      return row.cancels ? this.cancel(row.cancels) : { id: null, published_at: null, ...JSON.parse(row.json) };
    }
    const { uuid: stored } = (await row?.promise) ?? { uuid };
    const record = await this.#server.call(`cancel/${stored}`, await this.#session.fresh());
    this.schedule.cancelled(stored);
    return record;
  }

  /** @param {string} uuid */
  discard(uuid) {
    const row = this.#find(uuid);
    if (row && row.state !== "sending") this.#drop(row);
  }

  /** @param {string} uuid */
  retry(uuid) {
    const row = this.#find(uuid);
    if (row?.state !== "refused") return;
    this.#remove(row);
    this.#enqueue(row);
    Object.assign(row, { uuid: this.uuid(), state: "queued", tries: 0, error: undefined, batch: undefined });
    if (row.rebase) place(row, this.values.record(row.event));
    else compose(row);
    this.touch([row]);
    this.sender.run();
  }

  /** @param {string} uuid */
  #find(uuid) {
    return [...this.#rows].find((row) => row.uuid === uuid);
  }

  /** @param {Row} row */
  #drop(row) {
    this.#remove(row);
    this.#reject(row, new BrokerError("the write was withdrawn"));
    this.touch([row]);
  }

  /** @param {Row} row @param {BrokerError} error */
  #reject(row, error) {
    row.state = "refused";
    row.reject(error);
    this.history.refused(row);
  }

  /** The server refuses a row, and so all rows of its batch. @param {Row} bad @param {BrokerError} error */
  refuse(bad, error) {
    const rows = bad.batch ? [...this.#rows].filter((row) => row.batch === bad.batch) : [bad];
    for (const row of rows) {
      row.error = error;
      this.#reject(row, error);
    }
    this.touch(rows);
  }

  /** The server has stored rows. @param {Row[]} rows @param {EventRecord[]} records */
  accept(rows, records) {
    rows.forEach((row, index) => {
      const record = records[index];
      row.state = "stored";
      row.id = record.id;
      if (row.at === undefined) this.#stored.add(row);
      else {
        this.#remove(row);
        this.schedule.stored(row);
      }
      row.resolve(record);
    });
    this.settle(false);
    this.note();
  }

  /** Forgets what this user has not sent yet. */
  clear() {
    for (const row of this.unsent()) this.#drop(row);
  }

  /** Gives what was written without a user to the one who has logged in. */
  adopt() {
    for (const row of this.#rows) row.user ??= this.#session.name;
    this.note();
  }

  /** The writes of this user that the server has not stored. */
  unsent() {
    return [...this.#rows].filter((row) => row.user === this.#session.name && (row.state === "queued" || row.state === "sending"));
  }

  // What is shown.

  /** The writes of an event, in their order. @param {string} event */
  of(event) {
    return [...(this.#events.get(event) ?? [])];
  }

  /** The writes to lay over the value that the stream has brought. @param {string} event */
  overlays(event) {
    if (!this.#events.has(event)) return [];
    const user = this.#session.name;
    return this.of(event).filter((row) => row.user === user && row.state !== "refused" && !row.landed && row.at === undefined);
  }

  /** The writes for a time that this user's client has not sent yet. */
  scheduled() {
    return this.unsent().filter((row) => row.at !== undefined);
  }

  /** @param {string} prefix */
  pending(prefix) {
    let count = 0;
    for (const event of this.#events.keys()) if (event.startsWith(prefix)) count += this.overlays(event).length;
    return count;
  }

  /** The stream has brought a record. @param {EventRecord} record */
  landed(record) {
    for (const row of this.#events.get(record.event) ?? []) {
      if (row.uuid !== record.uuid) continue;
      Object.assign(row, { landed: true, id: record.id });
      record.data = row.data; // the same, and so the object that is shown stays the same
    }
  }

  /** Takes overlays away that the stream has confirmed: the position has reached the id of the stored record, so that
   * the stream has brought it, or something newer. While a state is sent in another order, the position says nothing.
   * @param {boolean} ready */
  settle(ready) {
    if (!this.#stored.size || !this.values.inOrder) return;
    const { position } = this.#connection;
    const done = [...this.#stored].filter((row) => {
      const id = row.id ?? "";
      const watched = this.#connection.watches(row.event);
      if (row.landed || !watched) return true;
      const here = reached(position, id) || (ready && split(position)[0] !== split(id)[0]); // the log is another one now
      return here && this.#connection.complete(row.event);
    });
    if (!done.length) return;
    for (const row of done) this.#remove(row);
    this.touch(done, false);
  }

  /** @param {Row[]} rows @param {boolean} [atOnce]  own writes are shown at once */
  touch(rows, atOnce = true) {
    for (const event of new Set(rows.map((row) => row.event))) this.values.touch(event);
    if (atOnce) this.values.flush();
    if (rows.some((row) => row.at !== undefined)) this.schedule.touch();
    this.note();
  }

  /** Another user sees other writes. */
  changed() {
    this.touch([...this.#rows]);
    this.sender.wake();
  }

  /** The list has changed; whoever watches it is notified once in a turn. */
  note() {
    this.#list = undefined;
    if (this.#notifying || !this.#watchers.size) return;
    this.#notifying = true;
    queueMicrotask(() => {
      this.#notifying = false;
      this.#watchers.notify(this.list.get());
    });
  }

  /** A version ends by itself. @param {number} time @param {string} event */
  #touchAt(time, event) {
    const timer = setTimeout(() => {
      this.#endings.delete(timer);
      this.values.touch(event);
    }, Math.min(time - this.#session.now() + 2, 2 ** 31 - 1));
    this.#endings.add(timer);
  }

  close() {
    this.sender.close();
    this.#endings.forEach(clearTimeout);
  }
}
