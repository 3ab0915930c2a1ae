// The schedule: what is pending, by due time.

import { Handle } from "./handle.js";
import { BACK_OFF_MS, BrokerError, Pause } from "./server.js";

/** @import { EventRecord, Pending, Schedule as ScheduleContract, Time } from "./types.js" */
/** @import { Values } from "./values.js" */
/** @import { Row } from "./write.js" */


/** @implements {ScheduleContract} */
export class Schedule extends Handle {
  /** What the server had when it was read last. @type {Map<string, Pending> | undefined} */
  #list;
  /** What this client has changed since that reading was begun; undefined is what it has taken away.
   * @type {Map<string, Pending | undefined>} */
  #since = new Map();
  /** @type {readonly Pending[] | undefined} */
  #shown;
  /** @type {BrokerError | undefined} */
  #error;
  #pause = new Pause();
  #reading = false;
  #again = false;
  #closed = false;

  /** @param {Values} values */
  constructor(values) {
    super(values, "$pending");
  }

  get = () => (this.#shown ??= this.#collect());

  #collect() {
    const all = new Map(this.#list);
    for (const [uuid, item] of this.#since)
      if (item) all.set(uuid, item);
      else all.delete(uuid);
    for (const row of this.values.outbox.scheduled()) {
      all.delete(row.cancels ?? "");
      all.set(row.uuid, itemOf(row));
    }
    return [...all.values()].sort((a, b) => a.at - b.at);
  }

  describe() {
    const { status, error = this.#error } = this.values.status(this.filter);
    const pending = this.values.outbox.scheduled().length;
    return error ? { status: "denied", pending, error } : { status: this.#list ? status : "loading", pending };
  }

  /** @param {any} watchers @param {(...values: any[]) => void} run */
  watch(watchers, run) {
    const begins = !this.watched;
    const end = super.watch(watchers, run);
    if (begins) this.read();
    return end;
  }

  /** Reads the list, as long as somebody watches it: when the stream is ready, and when it says that the list may have
   * changed. What has changed while it was read is read again. */
  async read() {
    this.#again = true;
    this.#pause.end();
    if (this.#reading) return;
    this.#reading = true;
    while (this.#again && this.watched && !this.#closed) {
      this.#again = false;
      this.#pause.begin();
      const since = this.#since;
      const before = [...since.keys()];
      /** @type {BrokerError | undefined} */
      let failed;
      try {
        const list = new Map();
        if (!(await this.values.session.fresh())) throw new BrokerError("only users may see what is pending; log in first", 401, "unauthorized");
        for await (const record of this.values.session.pages("pending?limit=1000")) list.set(record.uuid, itemOf(record));
        if (since !== this.#since) continue; // of another user
        this.#list = list;
        for (const uuid of before) since.delete(uuid);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        failed = error;
      }
      if (since !== this.#since) continue;
      const denied = failed?.type && [401, 403].includes(failed.status);
      this.#error = denied ? failed : undefined;
      if (!failed) this.#pause.failures = 0;
      if (!failed || denied) this.touch();
      else {
        this.#again = true;
        await this.#pause.wait(Math.max(failed.wait, this.#pause.longer(BACK_OFF_MS)));
      }
    }
    this.#reading = false;
  }

  /** What is shown has changed. */
  touch() {
    this.#shown = undefined;
    this.change("");
    this.refresh();
  }

  /** The server has stored a write, and this is known before the list has it. @param {Row} row */
  stored(row) {
    if (row.user !== this.values.session.name) return;
    if (row.id === null && this.watched) this.#since.set(row.uuid, itemOf(row));
    this.cancelled(row.cancels ?? "");
  }

  /** @param {string} uuid */
  cancelled(uuid) {
    if (this.watched) this.#since.set(uuid, undefined);
    this.touch();
  }

  /** What was shown is another user's. */
  reset() {
    this.#list = this.#error = undefined;
    this.#since = new Map();
    this.touch();
    this.read();
  }

  /** @param {string} uuid */
  async cancel(uuid) {
    await this.values.writer.cancel(uuid);
  }

  /** @param {string} uuid @param {Time} at @returns {Promise<EventRecord>} */
  move(uuid, at) {
    const item = this.get().find((each) => each.uuid === uuid);
    if (!item) throw new BrokerError(`nothing is pending with the uuid ${uuid}`);
    return this.values.writer.move(item, at);
  }

  close() {
    this.#closed = true;
    this.#pause.end();
  }
}

/** @param {Row | EventRecord} source @returns {Pending} */
function itemOf(source) {
  const { uuid, event, data, user = null } = source;
  if ("json" in source) return { uuid, event, data, at: source.at ?? 0, until: source.until, user };
  return { uuid, event, data, at: fromSeconds(source.timestamp), until: source.until && fromSeconds(source.until), user };
}

/** @param {number} seconds */
const fromSeconds = (seconds) => Math.round(1_000 * seconds);
