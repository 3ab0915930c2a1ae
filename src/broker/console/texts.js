// What is pending, as it was inserted: JavaScript would write 2.30 as 2.3, and has no room for so many digits as JSON has.

import { valueText } from "./row.js";
import { readLines } from "./snapshot.js";

/** @import { Context } from "./types.js" */

const TEXTS_PAUSE_MS = 50; // so that many entries are one request
const TEXTS_AGAIN_MS = 1_000; // what is shown already may not be stored yet
const TEXTS_ATTEMPTS = 4;
const TEXTS_PAGE = 1_000;
const TEXTS_UUID = /"uuid":"([^"]*)"/;

export class PendingTexts {
  #ctx;
  /** @type {Map<string, (text: string) => void>} */
  #wanted = new Map();
  #attempts = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {Context} ctx */
  constructor(ctx) {
    this.#ctx = ctx;
    ctx.signal.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  /** @param {string} uuid @param {(text: string) => void} run  is given the beginning of the data */
  want(uuid, run) {
    this.#wanted.set(uuid, run);
    this.#attempts = TEXTS_ATTEMPTS;
    this.#timer ??= setTimeout(() => this.#read(), TEXTS_PAUSE_MS);
  }

  async #read() {
    this.#attempts--;
    try {
      for (let query = `?limit=${TEXTS_PAGE}`; query && this.#wanted.size; ) {
        const response = await this.#ctx.api.get(`pending${query}`);
        await readLines(response, (line) => this.#take(line));
        query = /<(\?.*?)>/.exec(response.headers.get("Link") ?? "")?.[1] ?? "";
      }
    } catch {} // the values are shown as JavaScript has them
    this.#timer = undefined;
    if (this.#ctx.signal.aborted || !this.#wanted.size || !this.#attempts) return;
    this.#timer = setTimeout(() => this.#read(), TEXTS_AGAIN_MS);
  }

  /** @param {string} line  of the list: a record, with a bracket or a comma around it */
  #take(line) {
    const uuid = TEXTS_UUID.exec(line)?.[1] ?? "";
    this.#wanted.get(uuid)?.(valueText(line));
    this.#wanted.delete(uuid);
  }
}
