// Validation: what the validators of a page say of a value, before it is written and when it is received.

import { covers } from "./filters.js";
import { BrokerError } from "./server.js";

/** @import { EventRecord, Options, StandardResult } from "./types.js" */

/** Where pages are developed. */
const LOCAL = /^(localhost|127\.0\.0\.1|\[::1\])$/;

export class Validation {
  /** What was reported. @type {Set<string>} */
  #reported = new Set();

  /** @param {Options["validate"]} validators */
  constructor(validators = {}) {
    this.#validators = validators;
  }
  #validators;

  /** Returns what is wrong with a value, or a promise of it. The first filter that fits counts, and to remove an event is
   * always right. @param {string} name @param {any} data @returns {BrokerError | undefined | Promise<BrokerError | undefined>} */
  check(name, data) {
    const filter = data === null ? undefined : Object.keys(this.#validators).find((each) => covers([each], name));
    if (filter === undefined) return undefined;
    const failed = (/** @type {unknown} */ error) => errorOf(name, { issues: [{ message: String(error) }] });
    try {
      const result = this.#validators[filter]["~standard"].validate(data);
      return result instanceof Promise ? result.then((each) => errorOf(name, each), failed) : errorOf(name, result);
    } catch (error) {
      return failed(error);
    }
  }

  /** Reports once what is wrong with a value that others have written. It is shown all the same.
   * @param {EventRecord} record */
  async receive({ event, data }) {
    if (!LOCAL.test(globalThis.location?.hostname)) return;
    const { message = "" } = (await this.check(event, data)) ?? {};
    if (!message || this.#reported.has(message)) return;
    this.#reported.add(message);
    console.warn(`Broker: a value that was received is not valid: ${message}`);
  }
}

/** @param {string} name @param {StandardResult} result */
function errorOf(name, { issues }) {
  if (!issues?.length) return undefined;
  const [{ message, path = [] }] = issues;
  const keys = path.map((/** @type {any} */ each) => each?.key ?? each);
  const error = new BrokerError([name, keys.join("."), message].filter(Boolean).join(": "), 0, "invalid");
  return Object.assign(error, { path: keys.join("."), detail: message });
}
