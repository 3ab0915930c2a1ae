// The values: the state that the stream brings, overlaid by this client's own writes.

import { brings, covers } from "./filters.js";
import { reached } from "./frames.js";
import { Handles } from "./handles.js";
import { BrokerError, isExact } from "./server.js";

/** @import { EventRecord, EventState, Preloaded } from "./types.js" */
/** @import { Connection } from "./connection.js" */
/** @import { Outbox } from "./outbox.js" */
/** @import { Session } from "./session.js" */
/** @import { Validation } from "./validation.js" */
/** @import { Writer } from "./writer.js" */

/** The state of all events that are watched. */
export class Values {
  /** The newest version of each event that has state, as the stream has brought it. @type {Map<string, EventRecord>} */
  #base = new Map();
  /** While the whole state is sent anew, it is collected here, and replaces the old one in one step.
   * @type {Map<string, EventRecord> | undefined} */
  #staging;
  /** The filters of which `#base` is the state. @type {readonly string[]} */
  #known = [];
  /** @type {readonly string[]} */
  #denied = [];
  /** @type {BrokerError | undefined} */
  #refusal;
  /** @type {WeakSet<EventRecord>} */
  #inexact = new WeakSet();
  /** What was removed while pages of long lists are read. @type {Set<Set<string>>} */
  #pages = new Set();
  /** What is shown of events that have writes under way. @type {Map<string, unknown>} */
  #overlaid = new Map();
  /** Whether versions come in the order of their ids: not between `$skipped` or `$reset` and `$ready`. */
  inOrder = false;
  /** The session has expired: what only its user may read stays, as stale. */
  keep = false;

  /** Set by the client, because it needs the values, too. */
  writer = /** @type {Writer} */ (/** @type {unknown} */ (undefined));

  /** @param {Session} session @param {Connection} connection @param {Outbox} outbox @param {Validation} validation */
  constructor(session, connection, outbox, validation) {
    this.session = session;
    this.connection = connection;
    this.outbox = outbox;
    this.validation = validation;
    this.handles = new Handles(this, connection);
    connection.status.subscribe(() => this.handles.refresh());
  }

  /** @param {string} name @returns {any} */
  view(name) {
    return (this.#overlaid.has(name) ? this.#overlaid.get(name) : this.#base.get(name)?.data) ?? undefined;
  }

  /** @param {string} name */
  record(name) {
    return this.#base.get(name);
  }

  /** Whether it is known what the event is, or that there is none. @param {string} name */
  knows(name) {
    return this.#base.has(name) || ["live", "stale"].includes(this.status(name).status);
  }

  /** The names that are shown and begin with a prefix. @param {string} prefix */
  names(prefix) {
    return [...new Set([...this.#base.keys(), ...this.#overlaid.keys()])].filter((name) => name.startsWith(prefix));
  }

  /** @param {string} filter @returns {{status: EventState["status"], error?: BrokerError}} */
  status(filter) {
    const error = covers(this.#denied, filter) ? this.#refusal : undefined;
    if (error && !(this.keep && covers(this.#known, filter))) return { status: "denied", error };
    if (!covers(this.#known, filter)) return { status: "loading" };
    const live = !error && !this.#staging && this.connection.status.get() === "live" && this.connection.complete(filter);
    return { status: live ? "live" : "stale", ...(error && { error }) };
  }

  /** Shows what was read for this page, until the stream brings more. @param {Preloaded} preloaded */
  restore({ names, state, inexact }) {
    this.#known = names;
    for (const record of state) this.take(record, !inexact.includes(record.event));
  }

  // What the connection reports.

  /** @param {readonly string[]} filters @param {boolean} fresh */
  opened(filters, fresh) {
    if (fresh) {
      this.#staging = new Map(this.keep ? this.#base : []);
      this.inOrder = false;
      return;
    }
    if (this.#known.every((each) => covers(filters, each))) return;
    this.#known = filters.filter((each) => covers(this.#known, each));
    for (const name of [...this.#base.keys()])
      if (!brings(filters, name)) {
        this.#base.delete(name);
        this.touch(name);
      }
  }

  /** Whether the value that is shown can be written again as it is. @param {string} name */
  exact(name) {
    const record = this.#base.get(name);
    return !record || !this.#inexact.has(record);
  }

  /** @param {EventRecord} record @param {boolean} exact */
  take(record, exact) {
    const target = this.#staging ?? this.#base;
    const { id } = target.get(record.event) ?? {};
    if (id && record.id && id !== record.id && reached(id, record.id)) return; // a page of a long list had a newer version
    if (record.data === null) for (const names of this.#pages) names.add(record.event);
    if (!exact) this.#inexact.add(record);
    this.validation.receive(record);
    if (record.data === null) target.delete(record.event);
    else target.set(record.event, record);
    if (this.#staging) return;
    this.outbox.landed(record);
    this.touch(record.event);
  }

  /** Reads the first pages of long lists, before the stream is opened. Returns the id as of which they are.
   * @param {readonly string[]} filters */
  async begin(filters) {
    let first = "";
    for (const list of this.handles.recent()) {
      if (!filters.includes(list.filter)) continue;
      const id = await list.begin();
      first ||= id ?? "";
    }
    return first;
  }

  /** Reads a page of a long list. What the stream has removed meanwhile does not come back. @param {string} path */
  async page(path) {
    const removed = new Set();
    this.#pages.add(removed);
    try {
      const page = await this.session.read(path);
      if (!this.#pages.has(removed)) throw new BrokerError("another user has logged in meanwhile");
      page.records.forEach((record, index) => removed.has(record.event) || this.take(record, isExact(page.lines[index])));
      return page;
    } finally {
      this.#pages.delete(removed);
    }
  }

  /** @param {string} reason */
  reset(reason) {
    this.inOrder = false;
    if (reason === "rights" || reason === "erased") this.forget();
    this.#staging = new Map();
    this.handles.refresh();
  }

  /** Shows nothing any more: what was shown belongs to somebody else, or to nobody. */
  forget() {
    const names = [...this.#base.keys()];
    this.#base.clear();
    this.#pages.clear();
    this.#staging = undefined;
    this.#known = [];
    this.#denied = [];
    this.inOrder = false;
    for (const name of names) this.touch(name);
    this.handles.flush();
    this.handles.refresh();
  }

  /** @param {readonly string[]} filters @param {readonly string[]} denied @param {BrokerError} refusal */
  ready(filters, denied, refusal) {
    const staging = this.#staging;
    this.#staging = undefined;
    if (staging) {
      const old = this.#base;
      this.#base = staging;
      for (const name of new Set([...old.keys(), ...staging.keys()])) {
        const before = old.get(name);
        if (before?.uuid !== staging.get(name)?.uuid) this.touch(name);
        else if (before) staging.set(name, before); // so that the value stays the same object
      }
    }
    this.#known = filters;
    this.#denied = denied;
    this.#refusal = refusal;
    this.inOrder = true;
    for (const list of this.handles.recent()) list.renew();
    this.outbox.settle(true);
    this.handles.flush();
    this.handles.refresh();
  }

  /** @param {readonly string[]} filters @param {BrokerError} error */
  refused(filters, error) {
    this.#denied = filters;
    this.#refusal = error;
    this.handles.refresh();
  }

  /** Something about this event has changed. @param {string} name */
  touch(name) {
    const rows = this.outbox.overlays(name);
    if (rows.length)
      this.#overlaid.set(name, rows.reduce((data, row) => row.apply(data), /** @type {any} */ (this.#base.get(name)?.data)));
    else this.#overlaid.delete(name);
    this.handles.change(name);
  }
}
