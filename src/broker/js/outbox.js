// The outbox: the writes of this client, in their order, until the server has stored or refused each of them.

import { reached, split } from "./connection.js";
import { copied, difference, merge } from "./patch.js";
import { BrokerError, Pause } from "./server.js";
import { Watchers, call, deferred } from "./store.js";

/** @import { EventRecord, Outgoing, Sent, Store, Time, WriteOptions } from "./types.js" */
/** @import { Server } from "./server.js" */
/** @import { Session } from "./session.js" */
/** @import { Values } from "./values.js" */
/** @import { Connection } from "./connection.js" */

const ROWS_MAX = 1_000; // of one request: `batch_records_max`
const CHARACTERS_MAX = 256 << 10; // of one request: at most a mebibyte of UTF-8, `body_bytes_max`
const BACK_OFF_MS = 1_000;
const INEXACT = "the value has a number with more digits than JavaScript can express; set the whole value instead";

/** A write. Until the server has stored it, nothing but a 412 may change it, because only then it is certain that the
 * server has not stored it under this uuid.
 * @typedef {object} Row
 * @property {string} uuid
 * @property {string} event
 * @property {any} data
 * @property {string} json  the record as it is sent
 * @property {WriteOptions} options
 * @property {string | null} user
 * @property {"queued" | "sending" | "stored" | "refused"} state
 * @property {number} tries
 * @property {BrokerError} [error]
 * @property {number} [at]  in milliseconds; then the value that is shown does not change
 * @property {number} [until]
 * @property {string | null} [id]  of the stored record
 * @property {boolean} [landed]  the stream has brought it
 * @property {object} [batch]  rows of one batch are stored together, or none of them
 * @property {(data: any) => any} apply  what it makes of the data that is shown without it
 * @property {(data: any) => Pick<Row, "data" | "apply">} [rebase]  makes the write anew, from a newer version
 * @property {(record: EventRecord) => void} resolve
 * @property {(error: BrokerError) => void} reject */

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
  #running = false;
  #closed = false;
  #limit = ROWS_MAX;
  #pause = new Pause();
  #ticks = 0; // of the last uuid, 4,096 in a millisecond
  /** @type {Set<ReturnType<typeof setTimeout>>} */
  #endings = new Set();
  /** Set by the client, because the two need each other. @type {Values} */
  values = /** @type {any} */ (undefined);

  /** @param {Server} server @param {Session} session @param {Connection} connection */
  constructor(server, session, connection) {
    this.#server = server;
    this.#session = session;
    this.#connection = connection;
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

  /** The version that is shown. If nothing is known yet, the server says so (412), and sends it along.
   * @param {string} event */
  #shown(event) {
    return this.overlays(event).at(-1)?.uuid ?? this.values.record(event)?.uuid ?? "none";
  }

  /** @param {string} event @param {WriteOptions} options @param {Pick<Row, "data" | "apply" | "rebase">} what
   * @returns {Sent<any>} */
  #add(event, options, what) {
    const { promise, resolve, reject } = deferred();
    const { name: user } = this.#session;
    /** @type {Row} */
    const row = {
      ...what, uuid: this.uuid(), event, json: "", options, user, state: "queued", tries: 0, batch: this.#batch, resolve, reject,
    };
    if (options.at !== undefined) row.at = milliseconds(options.at);
    if (options.until !== undefined) {
      const until = (row.until = milliseconds(options.until));
      row.apply = (data) => (this.#session.now() < until ? what.apply(data) : null);
      this.#touchAt(until, event);
    }
    compose(row);
    this.#enqueue(row);
    this.#touch([row]);
    // What a page writes in one go is one request.
    queueMicrotask(() => this.#run());
    const sent = Object.assign(promise, { event, cancel: () => this.#cancel(row, promise) });
    return /** @type {any} */ (Object.defineProperty(sent, "uuid", { get: () => row.uuid }));
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
    /** @type {Promise<EventRecord>[]} */
    let all;
    try {
      write();
    } catch (error) {
      // A batch that was not written to its end is not sent.
      for (const row of this.#rows) if (row.batch === batch) this.#drop(row);
      throw error;
    } finally {
      this.#batch = undefined;
      all = [...this.#rows].filter((each) => each.batch === batch).map(once);
    }
    const promise = Promise.all(all);
    promise.catch(() => {});
    return promise;
  }

  /** @param {Row} row @param {Promise<EventRecord>} stored */
  async #cancel(row, stored) {
    if (row.state === "queued" && row.tries === 0) return this.#drop(row);
    const { uuid } = await stored;
    await this.#server.call(`cancel/${uuid}`, await this.#session.fresh());
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
    if (row.rebase) this.#place(row, this.values.record(row.event));
    else compose(row);
    this.#touch([row]);
    this.#run();
  }

  /** @param {string} uuid */
  #find(uuid) {
    return [...this.#rows].find((row) => row.uuid === uuid);
  }

  /** @param {Row} row */
  #drop(row) {
    this.#remove(row);
    row.reject(new BrokerError("the write was withdrawn"));
    this.#touch([row]);
  }

  /** Forgets what this user has not sent yet. */
  clear() {
    for (const row of this.unsent()) this.#drop(row);
  }

  /** Gives what was written without a user to the one who has logged in. */
  adopt() {
    for (const row of this.#rows) row.user ??= this.#session.name;
    this.#note();
  }

  /** The writes of this user that the server has not stored. */
  unsent() {
    return [...this.#rows].filter((row) => row.user === this.#session.name && (row.state === "queued" || row.state === "sending"));
  }

  // What is shown.

  /** The writes to lay over the value that the stream has brought, in their order. @param {string} event */
  overlays(event) {
    const rows = this.#events.get(event);
    if (!rows) return [];
    const user = this.#session.name;
    const now = this.#session.now();
    return [...rows].filter((row) => row.user === user && row.state !== "refused" && !row.landed && !(row.at && row.at > now));
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
    this.#touch(done, false);
  }

  /** @param {Row[]} rows @param {boolean} [atOnce]  own writes are shown at once */
  #touch(rows, atOnce = true) {
    for (const event of new Set(rows.map((row) => row.event))) this.values.touch(event);
    if (atOnce) this.values.flush();
    this.#note();
  }

  /** Another user sees other writes. */
  changed() {
    this.#touch([...this.#rows]);
    this.wake();
  }

  /** The list has changed; whoever watches it is notified once in a turn. */
  #note() {
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

  // Sending.

  /** The server can be reached again, or somebody has logged in. */
  wake() {
    this.#pause.forgive();
    this.#run();
  }

  close() {
    this.#closed = true;
    this.#pause.end();
    this.#endings.forEach(clearTimeout);
  }

  /** One request at a time, because what a user may do can depend on what was stored before. */
  async #run() {
    if (this.#running) return;
    this.#running = true;
    for (let rows; (rows = this.#next()).length; ) {
      const wait = await this.#send(rows);
      if (wait && !this.#closed) await this.#pause.wait(wait);
    }
    this.#running = false;
  }

  /** The rows of the next request. A batch goes alone. */
  #next() {
    if (this.#closed || this.#session.expired) return [];
    const queued = [...this.#rows].filter((row) => row.state === "queued" && row.user === this.#session.name);
    const batch = queued[0]?.batch;
    if (batch) return queued.filter((row) => row.batch === batch);
    const end = queued.findIndex((row) => row.batch);
    const rows = queued.slice(0, end < 0 ? this.#limit : Math.min(end, this.#limit));
    let size = 0;
    return rows.filter((row, index) => (size += row.json.length) <= CHARACTERS_MAX || index === 0);
  }

  /** Returns after how many milliseconds to send the next ones. @param {Row[]} rows */
  async #send(rows) {
    const token = await this.#session.fresh();
    if (this.#closed || rows.some((row) => row.user !== this.#session.name || row.state !== "queued" || !this.#rows.has(row))) return 0;
    for (const row of rows) Object.assign(row, { state: "sending", tries: row.tries + 1 });
    this.#note();
    try {
      const records = await this.#server.call("insert", token, `[${rows.map((row) => row.json).join()}]`);
      this.#pause.failures = 0;
      this.#limit = Math.min(2 * this.#limit, ROWS_MAX);
      rows.forEach((row, index) => this.#accept(row, records[index]));
      this.settle(false);
      this.#note();
      return 0;
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      for (const row of rows) row.state = "queued";
      const wait = this.#refused(rows, error, token);
      this.#note();
      return wait;
    }
  }

  /** @param {Row} row @param {EventRecord} record */
  #accept(row, record) {
    row.state = "stored";
    row.id = record.id;
    if (record.id === null) this.#remove(row); // it is pending
    else this.#stored.add(row);
    row.resolve(record);
  }

  /** @param {Row[]} rows @param {BrokerError} error @param {string | null} token @returns {number} */
  #refused(rows, error, token) {
    const { status, type } = error;
    if (type && status === 401) {
      if (this.#session.reject(token)) return 0;
      if (token) return this.#pause.longer(BACK_OFF_MS);
      console.warn("Broker: writes wait until somebody logs in (signUp, logIn), because the server wants to know who writes");
      return Infinity;
    }
    if (!type || status === 408 || status === 429 || status >= 500) {
      if (status === 429 && !rows[0].batch) this.#limit = error.allowed || Math.max(1, rows.length >> 1);
      return Math.max(error.wait, this.#pause.longer(BACK_OFF_MS));
    }
    const { index = rows.length > 1 ? -1 : 0 } = error;
    const bad = rows[index];
    if (!bad && !rows[0].batch) {
      this.#limit = Math.max(1, rows.length >> 1); // too large together; or it shows which one it is
    } else if (status === 412 && error.exact && bad?.rebase && (!bad.batch || rows.every((row) => row.rebase))) {
      this.#rebase(bad, error.latest ?? undefined);
    } else {
      const all = rows[0].batch ? rows : [bad];
      for (const row of all) {
        Object.assign(row, { state: "refused", error });
        row.reject(error);
      }
      this.#touch(all);
    }
    return 0;
  }

  /** Somebody else was faster: applies the change to the newer version, and so those that were built upon it. None of
   * them was stored, because each one names the one before. @param {Row} bad @param {EventRecord} [latest] */
  #rebase(bad, latest) {
    const rows = [...(this.#events.get(bad.event) ?? [])];
    const chain = rows.slice(rows.indexOf(bad)).filter((row) => row.user === bad.user && row.state === "queued" && !row.at);
    const end = chain.findIndex((row) => !row.rebase);
    /** @type {Pick<EventRecord, "uuid" | "data"> | undefined} */
    let before = latest;
    for (const row of end < 0 ? chain : chain.slice(0, end)) {
      row.uuid = this.uuid();
      this.#place(row, before);
      before = row;
    }
    this.#touch([bad]);
  }

  /** @param {Row} row @param {Pick<EventRecord, "uuid" | "data"> | undefined} before */
  #place(row, before) {
    Object.assign(row, row.rebase?.(before?.data));
    row.options = { ...row.options, ifLatest: before?.uuid ?? "none" };
    compose(row);
  }

  /** A uuid of version 7 (RFC 9562), later than the one before. `crypto.randomUUID` does not exist on plain http. */
  uuid() {
    this.#ticks = Math.max(this.#ticks + 1, Math.floor(4_096 * this.#session.now()));
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const view = new DataView(bytes.buffer);
    view.setUint32(0, this.#ticks / 2 ** 28);
    view.setUint16(4, (this.#ticks / 4_096) % 65_536);
    view.setUint16(6, 0x7000 | this.#ticks % 4_096);
    view.setUint8(8, 0x80 | (bytes[8] & 0x3f));
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  }
}

/** @param {Row} row @returns {Outgoing} */
function shown({ uuid, event, data, at, user, state, tries, error }) {
  return { uuid, event, data, at, user, state: /** @type {Outgoing["state"]} */ (state), tries, error };
}

/** @param {Row} row @returns {Promise<EventRecord>} */
function once(row) {
  const { resolve, reject } = row;
  return new Promise((yes, no) => {
    row.resolve = (record) => (resolve(record), yes(record));
    row.reject = (error) => (reject(error), no(error));
  });
}

/** Fixes what is sent. @param {Row} row */
function compose(row) {
  const { at, until, ifLate, ifLatest } = row.options;
  row.json = JSON.stringify({
    event: row.event, data: row.data, uuid: row.uuid, timestamp: seconds(at), until: seconds(until), late: ifLate, if_latest: ifLatest,
  });
}

/** @param {Time | undefined} time */
function seconds(time) {
  if (time === undefined || typeof time === "string") return time;
  return Number(time) / 1_000;
}

/** @param {Time} time */
function milliseconds(time) {
  const value = typeof time === "string" ? Date.parse(time) : Number(time);
  if (Number.isNaN(value)) throw new TypeError(`${time} is no time: give milliseconds, a Date, or a text such as 2030-01-01T12:00:00Z`);
  return value;
}
