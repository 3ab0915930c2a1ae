// Pages of the state.

import { hasWords, wordsOf } from "./marked.js";
import { rowOf } from "./row.js";

const WORDS_REQUESTS = 10; // until the list is shown as far as it is known
const WORDS_PAGE = 1_000; // rows of each of them

/** @import { Cursor, LoadRows } from "./listing.js" */
/** @import { Row } from "./row.js" */
/** @import { Context } from "./types.js" */

/** Which events are shown: those below a prefix, and those whose names contain a text.
 * @typedef {{under: string, search: string}} Selected */
/** @typedef {Awaited<ReturnType<LoadRows>>} Page */

/** Reads one page of `GET /snapshot`. @param {Context} ctx @param {Selected} selected
 * @param {{[name: string]: string | number | undefined}} parameters @returns {Promise<Page>} */
export async function readRows(ctx, { under, search }, parameters) {
  const query = new URLSearchParams();
  const all = { ...parameters, event: under && `${under}*`, search: longestWord(search) };
  for (const [name, value] of Object.entries(all)) if (value !== undefined && value !== "") query.set(name, String(value));
  const response = await ctx.api.get(`snapshot?${query}`);
  /** @type {Row[]} */
  const rows = [];
  await readLines(response, (line) => {
    // Each line of the array is a record, with a bracket or a comma around it.
    const record = line.slice(line.indexOf("{"), line.lastIndexOf("}") + 1);
    if (record) rows.push(rowOf(record));
  });
  return { rows, more: response.headers.has("Link"), id: response.headers.get("Last-Event-ID") ?? "" };
}

/** The server looks for one text, so it is given the longest word. @param {string} search */
const longestWord = (search) => wordsOf(search).reduce((longest, each) => (each.length > longest.length ? each : longest), "");

/** Looks for the other words of the search in what comes. @param {LoadRows} load @param {string} search
 * @returns {LoadRows} */
export function withWords(load, search) {
  const words = wordsOf(search);
  if (words.length < 2) return load;
  return async (behind, limit) => {
    /** @type {Row[]} */
    const rows = [];
    let id = "";
    for (let request = 0, end = behind; ; request++) {
      const page = await load(end, WORDS_PAGE);
      id ||= page.id;
      rows.push(...page.rows.filter((row) => hasWords(row.name, words)));
      const last = page.rows.at(-1);
      if (rows.length > limit) return { rows: rows.slice(0, limit), more: true, id };
      if (!page.more || !last) return { rows, more: false, id };
      end = { name: last.name, place: last.place };
      if (request === WORDS_REQUESTS - 1) return { rows, more: true, id, end };
    }
  };
}

/** Only one line at a time is in memory, because each may have a mebibyte. @param {Response} response
 * @param {(line: string) => void} run */
export async function readLines(response, run) {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part; reader && !(part = await reader.read()).done; ) {
    const lines = part.value.split("\n");
    lines[0] = rest + lines[0];
    rest = /** @type {string} */ (lines.pop());
    lines.forEach(run);
  }
  run(rest);
}

/** The state now. @param {Context} ctx @param {Selected} selected @param {boolean} newest @returns {LoadRows} */
export function loadNow(ctx, selected, newest) {
  return withWords((behind, limit) =>
    readRows(ctx, selected, newest
      ? { order: "newest", limit, before: behind?.place ?? undefined }
      : { order: "name", limit, after: behind?.name }), selected.search);
}
