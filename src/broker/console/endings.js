// The endings: when the versions end that hold now. No call lists them, so they are looked for among the newest versions,
// and then followed on the stream.

import { openStream } from "./stream.js";

/** @import { Context } from "./types.js" */

/** A version that holds now, and when it ends, in milliseconds.
 * @typedef {{uuid: string, event: string, until: number, user: string | null}} Ending */

const ENDINGS_PAGE = 1_000; // records of one page, which come without their data
const ENDINGS_RETRY_MS = 5_000; // until they are read again, if they could not be read

/** @param {Context} ctx @param {() => void} changed */
export function followEndings(ctx, changed) {
  /** @type {Map<string, Ending>} */
  let found = new Map();
  /** What the stream has brought is newer than what a page brings afterwards. @type {Set<string>} */
  let moved = new Set();
  let next = "";
  let looked = 0;
  let error = "";

  /** @param {any} record */
  function take(record) {
    const { event, uuid, until, user = null } = record;
    if (until === undefined) found.delete(event);
    else found.set(event, { uuid, event, until: Math.round(1_000 * until), user });
  }

  /** @param {string} path @returns {Promise<string | null>}  the id as of which the page is */
  async function read(path) {
    const response = await ctx.api.get(path);
    const records = await response.json();
    for (const record of records) if (!moved.has(record.event)) take(record);
    looked += records.length;
    const link = /<(\?.*?)>/.exec(response.headers.get("Link") ?? "")?.[1];
    next = link ? `snapshot${link}` : "";
    changed();
    return response.headers.get("Last-Event-ID");
  }

  async function begin() {
    found = new Map();
    moved = new Set();
    looked = 0;
    try {
      const id = await read(`snapshot?order=newest&data=no&limit=${ENDINGS_PAGE}`);
      error = "";
      if (!ctx.signal.aborted && id) follow(id);
    } catch (failed) {
      if (ctx.signal.aborted) return;
      error = failed instanceof Error ? failed.message : String(failed);
      changed();
      const timer = setTimeout(begin, ENDINGS_RETRY_MS);
      ctx.signal.addEventListener("abort", () => clearTimeout(timer));
    }
  }

  /** @param {string} id */
  function follow(id) {
    const close = openStream(ctx, {
      query: { frames: "record" },
      lastEventId: id,
      state() {}, // the shell shows the state of the connection
      frame({ event, data }) {
        if (event === "$reset") {
          close();
          begin();
        }
        if (event || !data) return;
        const record = JSON.parse(data);
        const before = found.size;
        if (next) moved.add(record.event);
        take(record);
        if (found.size !== before || record.until !== undefined) changed();
      },
    });
  }

  begin();
  return {
    list: () => [...found.values()],
    /** How many versions were looked at, and whether there are more. */
    get looked() {
      return looked;
    },
    get more() {
      return Boolean(next);
    },
    get error() {
      return error;
    },
    /** Looks at the next older versions. */
    look: () => (next ? read(next).catch(() => null) : Promise.resolve(null)), // the button is still there
  };
}
