// The newest events of a prefix: a long list, which is read from its end.

import { Collection } from "./collection.js";
import { reached } from "./frames.js";

/** @import { Values } from "./values.js" */

export class Recent extends Collection {
  /** The id of the oldest event that was read; what is older is not shown. @type {string | undefined} */
  oldest;
  /** Whether all events were read. */
  all = false;
  /** @type {Promise<boolean> | undefined} */
  loading;

  /** The filter is one of its own, because the stream brings what is new of it, and nothing that was there before.
   * @param {Values} values @param {string} prefix @param {boolean} deep @param {number} last */
  constructor(values, prefix, deep, last) {
    super(values, prefix, deep, `$${last}${deep ? "" : "/"} ${prefix}*`);
    /** @type {number} */
    this.last = last;
  }

  /** @param {string} name */
  look(name) {
    const id = this.values.record(name)?.id;
    if (id && !this.all && !(this.oldest && reached(id, this.oldest))) return undefined;
    return super.look(name);
  }

  /** Reads the newest events, before the stream is opened. Returns the id from which it is to go on. */
  async begin() {
    this.oldest = undefined;
    this.all = false;
    return (await this.#read()).id;
  }

  more() {
    return (this.loading ??= this.#more().finally(() => (this.loading = undefined)));
  }

  async #more() {
    await this.ready;
    if (this.all) return false;
    await this.#read();
    this.renew();
    return !this.all;
  }

  async #read() {
    const query = new URLSearchParams({ event: `${this.prefix}*`, order: "newest", limit: String(this.last) });
    if (this.oldest) query.set("before", this.oldest);
    const page = await this.values.page(`snapshot?${query}`);
    this.oldest = page.records.at(-1)?.id ?? this.oldest;
    this.all = !page.next;
    return page;
  }

  /** Looks at all events again, because older ones are shown now. */
  renew() {
    for (const name of this.values.names(this.prefix)) if (this.concerns(name)) this.change(name);
    this.refresh();
  }
}
