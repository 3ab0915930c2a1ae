// The outbox: the writes of this client, in their order, until the server has stored or refused each of them.

import { reached, split } from "./frames.js";
import { Sender } from "./sender.js";
import { BrokerError } from "./server.js";
import { Derived } from "./store.js";
import { compose, createUuids, shown } from "./write.js";

/** @import { EventRecord } from "./types.js" */
/** @import { Connection } from "./connection.js" */
/** @import { History } from "./history.js" */
/** @import { Schedule } from "./schedule.js" */
/** @import { Server } from "./server.js" */
/** @import { Session } from "./session.js" */
/** @import { Validation } from "./validation.js" */
/** @import { Values } from "./values.js" */
/** @import { Row } from "./write.js" */

export class Outbox {
  /** What the page can see of it: what others have written on this device is not for this user. */
  list = new Derived(() => this.#own().filter((row) => row.state !== "stored").map(shown));

  /** In the order in which they were written. A stored row stays until the stream has brought it. @type {Set<Row>} */
  #rows = new Set();
  /** The same by event. @type {Map<string, Set<Row>>} */
  #events = new Map();
  /** Those that are stored, and that the stream has not brought yet. @type {Set<Row>} */
  #stored = new Set();
  // Set by the client, because they need the outbox, too.
  values = /** @type {Values} */ (/** @type {unknown} */ (undefined));
  schedule = /** @type {Schedule} */ (/** @type {unknown} */ (undefined));
  history = /** @type {History} */ (/** @type {unknown} */ (undefined));

  /** @param {Server} server @param {Session} session @param {Connection} connection @param {Validation} validation */
  constructor(server, session, connection, validation) {
    this.#session = session;
    this.#connection = connection;
    this.#validation = validation;
    this.uuid = createUuids(() => session.now());
    this.sender = new Sender(server, session, this);
  }
  #session;
  #connection;
  #validation;

  /** A write of the page. @param {Row} row */
  add(row) {
    this.#enqueue(row);
    this.fix(row);
    this.touch([row]);
    // What a page writes in one go is one request.
    queueMicrotask(() => this.sender.run());
  }

  /** Fixes what is sent, and refuses what is not valid. @param {Row} row */
  fix(row) {
    compose(row);
    const error = this.#validation.check(row.event, row.data);
    row.check = error instanceof Promise ? error : undefined;
    if (error && !row.check) this.refuse(row, /** @type {BrokerError} */ (error));
  }

  /** Makes a write anew, upon a newer version. @param {Row} row @param {Pick<EventRecord, "uuid" | "data"> | undefined} latest */
  place(row, latest) {
    row.before = latest?.data ?? null;
    Object.assign(row, row.rebase?.(latest?.data));
    row.options = { ...row.options, ifLatest: latest?.uuid ?? "none" };
    this.fix(row);
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

  /** @param {string} uuid */
  discard(uuid) {
    const row = this.find(uuid);
    if (row && row.state !== "sending") this.drop(row);
  }

  /** @param {string} uuid */
  retry(uuid) {
    const row = this.find(uuid);
    if (row?.state !== "refused") return;
    this.#remove(row);
    this.#enqueue(row);
    Object.assign(row, { uuid: this.uuid(), state: "queued", tries: 0, error: undefined, batch: undefined });
    if (row.rebase) this.place(row, this.overlays(row.event).at(-2) ?? this.values.record(row.event));
    else this.fix(row);
    this.touch([row]);
    this.sender.run();
  }

  /** @param {string} uuid */
  find(uuid) {
    return this.#own().find((row) => row.uuid === uuid);
  }

  /** @param {Row} row */
  drop(row) {
    const rows = row.batch ? this.batch(row.batch) : [row]; // all of a batch, or none
    for (const each of rows) {
      this.#remove(each);
      if (each.state !== "refused") this.#reject(each, new BrokerError("the write was withdrawn"));
    }
    this.touch(rows);
  }

  /** @param {Row} row @param {BrokerError} error */
  #reject(row, error) {
    row.state = "refused";
    row.reject(error);
    this.history.refused(row);
  }

  /** The server refuses a row, and so all rows of its batch. @param {Row} bad @param {BrokerError} error */
  refuse(bad, error) {
    const rows = bad.batch ? this.batch(bad.batch) : [bad];
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
    this.list.change();
  }

  /** Forgets what this user has not sent yet, and what was refused. */
  clear() {
    for (const row of this.#own()) if (row.state !== "stored") this.drop(row);
  }

  /** Gives what was written without a user to the one who has logged in. */
  adopt() {
    for (const row of this.#rows) row.user ??= this.#session.name;
    this.list.change();
  }

  #own() {
    return [...this.#rows].filter((row) => row.user === this.#session.name);
  }

  /** The writes of this user that the server has not stored. */
  unsent() {
    return this.#own().filter((row) => row.state === "queued" || row.state === "sending");
  }

  /** The writes of a batch. @param {object} batch */
  batch(batch) {
    return [...this.#rows].filter((row) => row.batch === batch);
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
    if (atOnce) this.values.handles.flush();
    if (rows.some((row) => row.at !== undefined)) this.schedule.touch();
    this.list.change();
  }

  /** Another user sees other writes. */
  changed() {
    this.touch([...this.#rows]);
    this.sender.wake();
  }

  close() {
    this.sender.close();
  }
}
