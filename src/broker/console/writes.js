// Requests that insert a version. Their bodies are put together as text, so that the data are sent as they were written.

import { ProblemError } from "./api.js";
import { randomUuid } from "./uuid.js";
import { readVersion } from "./version.js";

/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */

/** `data` is compact JSON. Times are in milliseconds. `latest` is the version that must be the newest one; undefined: whichever.
 * @typedef {object} NewVersion
 * @property {string} event
 * @property {string} data
 * @property {number | null} [at]
 * @property {number | null} [until]
 * @property {VersionRecord | null} [latest] */

/** The writes of one screen. A write that is sent again, because its response was lost, has the same uuid: it is stored once. */
export class VersionWriter {
  #ctx;
  #body = "";
  /** Of the last write that was sent. */
  uuid = "";

  /** @param {Context} ctx */
  constructor(ctx) {
    this.#ctx = ctx;
  }

  /** Raises a ProblemError. @param {NewVersion} version @returns {Promise<VersionRecord>} */
  async insert(version) {
    const body = insertBody(version);
    if (body !== this.#body) {
      this.#body = body;
      this.uuid = randomUuid();
    }
    try {
      const response = await this.#ctx.api.post("insert", `{"uuid":"${this.uuid}",${body.slice(1)}`);
      const stored = readVersion(await response.text());
      this.#body = ""; // the same text again is another version
      return stored;
    } catch (error) {
      // Only these leave open whether it was stored; what was refused is another write when it is sent again.
      if (!(error instanceof ProblemError && (error.status === 0 || error.status >= 500))) this.#body = "";
      throw error;
    }
  }
}

/** The body of `POST /insert`. @param {NewVersion} version */
export function insertBody({ event, data, at, until, latest }) {
  const parts = [`"event":${JSON.stringify(event)}`, `"data":${data}`];
  // A scheduled version has no condition, because nobody knows what the newest one will be (docs/http.md).
  if (typeof at === "number") parts.push(`"timestamp":${at / 1_000}`, '"late":"refuse"');
  else if (latest !== undefined) parts.push(`"if_latest":${JSON.stringify(latest && latest.data !== "null" ? latest.uuid : "none")}`);
  if (typeof until === "number") parts.push(`"until":${until / 1_000}`);
  return `{${parts.join(",")}}`;
}
