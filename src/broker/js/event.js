// An event: its value, its past, and the writes to it.

import { Handle } from "./handle.js";
import { seconds } from "./write.js";

/** @import { Event as EventContract, LogOptions, Time, WriteOptions } from "./types.js" */
/** @import { Values } from "./values.js" */

/** @implements {EventContract<any>} */
export class Event extends Handle {
  /** @param {Values} values @param {string} name */
  constructor(values, name) {
    super(values, name);
    this.name = name;
    this.#value = this.get();
  }

  /** As of the last change. @type {any} */
  #value;

  get = () => this.values.view(this.name);

  /** @param {string} name */
  concerns(name) {
    return name === this.name;
  }

  /** What the stream brings of this client's own writes is shown already. @param {string} name */
  change(name) {
    if (this.#value === (this.#value = this.get())) return;
    super.change(name);
  }

  describe() {
    const record = this.values.record(this.name);
    return {
      ...this.values.status(this.name),
      exists: this.get() !== undefined,
      pending: this.values.outbox.overlays(this.name).length,
      ...(record && { id: record.id, by: record.user, ...(record.published_at && { at: 1_000 * record.published_at }) }),
    };
  }

  /** @param {any} data @param {WriteOptions} [options] */
  set(data, options) {
    return this.values.writer.set(this.name, data, options);
  }

  /** @param {any} changes */
  patch(changes) {
    return this.values.writer.patch(this.name, changes);
  }

  /** @param {(data: any) => any} change */
  update(change) {
    return this.values.writer.update(this.name, change);
  }

  /** @param {WriteOptions} [options] @returns {any} */
  remove(options) {
    return this.values.writer.set(this.name, null, options);
  }

  /** @param {LogOptions} [options] */
  log({ limit = 50, before } = {}) {
    const path = `collections/${encodeURIComponent(this.name)}?order=desc&limit=${limit}`;
    return this.values.session.pages(before ? `${path}&after=${before}` : path);
  }

  /** @param {Time} time */
  async at(time) {
    const query = new URLSearchParams({ event: this.name, at: String(seconds(time)) });
    const { records } = await this.values.session.read(`snapshot?${query}`);
    return records[0]?.data;
  }

  undo() {
    return this.values.writer.undo(this.name);
  }

  redo() {
    return this.values.writer.redo(this.name);
  }
}
