// The sender: it sends the writes of the outbox, one request at a time, and decides what a refusal means.

import { BACK_OFF_MS, BrokerError, Pause } from "./server.js";

/** @import { EventRecord } from "./types.js" */
/** @import { Outbox } from "./outbox.js" */
/** @import { Server } from "./server.js" */
/** @import { Session } from "./session.js" */
/** @import { Row } from "./write.js" */

const ROWS_MAX = 1_000; // of one request: `batch_records_max`
const CHARACTERS_MAX = 256 << 10; // of one request: at most a mebibyte of UTF-8, `body_bytes_max`

export class Sender {
  #running = false;
  #closed = false;
  #limit = ROWS_MAX;
  #pause = new Pause();

  /** @param {Server} server @param {Session} session @param {Outbox} outbox */
  constructor(server, session, outbox) {
    this.server = server;
    this.#session = session;
    this.#outbox = outbox;
  }
  #session;
  #outbox;

  /** The server can be reached again, or somebody has logged in. */
  wake() {
    this.#pause.forgive();
    this.run();
  }

  close() {
    this.#closed = true;
    this.#pause.end();
  }

  /** One request at a time, because what a user may do can depend on what was stored before. */
  async run() {
    if (this.#running) return;
    this.#running = true;
    try {
      for (let rows; (rows = this.#next()).length; ) {
        this.#pause.begin();
        const wait = await this.#send(rows);
        if (wait && !this.#closed) await this.#pause.wait(wait);
      }
    } finally {
      this.#running = false;
    }
  }

  /** The rows of the next request. A batch goes alone. */
  #next() {
    if (this.#closed || this.#session.expired) return [];
    const queued = this.#outbox.unsent();
    const batch = queued[0]?.batch;
    if (batch) return queued.filter((row) => row.batch === batch);
    const end = queued.findIndex((row) => row.batch);
    const rows = queued.slice(0, end < 0 ? this.#limit : Math.min(end, this.#limit));
    let size = 0;
    return rows.filter((row, index) => (size += row.json.length) <= CHARACTERS_MAX || index === 0);
  }

  /** Returns after how many milliseconds to send the next ones. @param {Row[]} rows */
  async #send(rows) {
    /** @type {string | null} */
    let token = null;
    try {
      token = await this.#session.fresh();
      if (this.#closed || rows.some((row) => row.user !== this.#session.name || row.state !== "queued")) return 0;
      const checked = rows.filter((row) => row.check);
      if (checked.length) return await this.#check(checked);
      for (const row of rows) Object.assign(row, { state: "sending", tries: row.tries + 1 });
      this.#outbox.list.change();
      const records = await this.server.call("insert", token, `[${rows.map((row) => row.json).join()}]`);
      if (!Array.isArray(records) || records.length < rows.length) throw new BrokerError("the response is not Broker's");
      this.#pause.failures = 0;
      this.#limit = Math.min(2 * this.#limit, ROWS_MAX);
      // A write that comes in the place of another one is two items, of which the second one is the write.
      this.#outbox.accept(rows, records.slice(-rows.length));
      return 0;
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      for (const row of rows) if (row.state === "sending") row.state = "queued";
      const wait = this.#refused(rows, error, token);
      this.#outbox.list.change();
      return wait;
    }
  }

  /** Waits for validators that take their time. What comes later waits, too. @param {Row[]} rows */
  async #check(rows) {
    for (const row of rows) {
      const error = await row.check;
      row.check = undefined;
      if (error && row.state === "queued") this.#outbox.refuse(row, error);
    }
    return 0;
  }

  /** @param {Row[]} rows @param {BrokerError} error @param {string | null} token @returns {number} */
  #refused(rows, error, token) {
    const { status, type } = error;
    if (type && status === 401) {
      if (this.#session.reject(token)) return 0;
      if (token) return this.#pause.longer(BACK_OFF_MS);
      console.warn("Broker: only users may write. What was written waits for signUp or logIn with {adopt: true}");
      return Infinity;
    }
    // What has no type is a proxy's, which may be right later; but what is too large for it stays too large.
    if ((!type && status !== 413) || status === 408 || status === 429 || status >= 500) {
      if (status === 429 && !rows[0].batch) this.#limit = error.allowed || Math.max(1, rows.length >> 1);
      return Math.max(error.wait, this.#pause.longer(BACK_OFF_MS));
    }
    const { index = rows.length > 1 ? -1 : 0 } = error;
    const bad = rows[index];
    if (!bad && !rows[0].batch && rows.length > 1) {
      this.#limit = rows.length >> 1; // too large together; or it shows which one it is
    } else if (status === 412 && !rows[0].batch && rows.some((row, at) => at < index && row.event === bad.event)) {
      // What the server calls the latest version is the one before this request, of which it has stored nothing. So
      // what comes before goes first, and then the server knows better.
      this.#limit = index;
    } else if (status === 412 && error.exact && bad?.rebase && !bad.step && (!bad.batch || rows.every((row) => row.rebase))) {
      this.#rebase(bad, error);
    } else this.#outbox.refuse(bad ?? rows[0], error);
    return 0;
  }

  /** Somebody else was faster: applies the change to the newer version, and so those that were built upon it. None of
   * them was stored, because each one names the one before. In a batch, the version before may be in the batch itself.
   * @param {Row} bad @param {BrokerError} error */
  #rebase(bad, error) {
    const rows = this.#outbox.of(bad.event).filter((row) => row.user === bad.user && row.state === "queued" && row.at === undefined);
    const from = rows.indexOf(bad);
    const own = bad.batch && rows[from - 1]?.batch === bad.batch ? rows[from - 1] : undefined;
    /** @type {Pick<EventRecord, "uuid" | "data"> | undefined} */
    let before = own ?? error.latest ?? undefined;
    // The server has looked at this version already, so to try again would change nothing.
    if (bad.options.ifLatest === (before?.uuid ?? "none")) return this.#outbox.refuse(bad, error);
    for (const row of rows.slice(from)) {
      if (!row.rebase) {
        row.before = before?.data ?? null; // for undo
        break;
      }
      row.uuid = this.#outbox.uuid();
      try {
        this.#outbox.place(row, before);
        before = row;
      } catch (problem) {
        this.#outbox.refuse(row, /** @type {BrokerError} */ (problem)); // the function of the page has thrown
      }
    }
    this.#outbox.touch([bad]);
  }
}
