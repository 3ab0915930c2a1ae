// The state at another time, beside the one now.

import { Listing } from "./listing.js";
import { byNames, compareNames, compareNewest } from "./row.js";
import { readRows, withWords } from "./snapshot.js";

/** @import { LoadRows } from "./listing.js" */
/** @import { Shown } from "./live.js" */
/** @import { Row } from "./row.js" */
/** @import { Page, Selected } from "./snapshot.js" */
/** @import { Context } from "./types.js" */

export const THEN_SORTED_MAX = 1_000; // rows that are put in the order of their times

/** The list of a time. The newest are first only if all rows are on one page, because the server has no such order for
 * what is planned. @param {Context} ctx @param {Shown} shown @param {() => number} at  milliseconds */
export function listingThen(ctx, shown, at) {
  const load = withWords(loadThen(ctx, shown, at), shown.search);
  if (shown.order === "name") return new Listing(load, byNames);
  return new Listing(async (behind, limit) => {
    if (behind) return load(behind, limit);
    const page = await load(null, THEN_SORTED_MAX);
    if (!page.more) page.rows.sort(byTimes);
    return page;
  }, byNames);
}

/** The latest version first, and at the end what has none at this time. @param {Row} a @param {Row} b */
export function byTimes(a, b) {
  const isMissing = (/** @type {Row} */ row) => Number(row.mark === "missing");
  return isMissing(a) - isMissing(b) || b.at - a.at || compareNewest(a, b) || byNames(a, b);
}

/** Reads both states in the order by name, because what is planned has no other.
 * @param {Context} ctx @param {Selected} selected @param {() => number} at  milliseconds @returns {LoadRows} */
function loadThen(ctx, selected, at) {
  return async (behind, limit) => {
    const common = { order: "name", limit, after: behind?.name };
    const [then, now] = await Promise.all([
      readRows(ctx, selected, { ...common, at: at() / 1_000 }),
      readRows(ctx, selected, { ...common, data: "no" }),
    ]);
    return compared(then, now);
  };
}

/** The rows of one state with marks where the other one differs, and those that only the other one has, as far as both
 * pages reach. @param {Page} then @param {Page} now @returns {Page} */
export function compared(then, now) {
  const ends = [then, now].filter((page) => page.more).map((page) => page.rows.at(-1)?.name ?? "");
  const end = ends.sort(compareNames)[0];
  const current = new Map(now.rows.map((row) => [row.name, row.id]));
  /** @type {Row[]} */
  const rows = then.rows.map((row) => {
    const id = current.get(row.name);
    current.delete(row.name);
    return { ...row, mark: id === undefined ? "added" : id === row.id ? "" : "changed" };
  });
  for (const row of now.rows) if (current.has(row.name)) rows.push({ ...row, value: "", mark: "missing" });
  const within = end === undefined ? rows : rows.filter((row) => compareNames(row.name, end) <= 0);
  return { rows: within.sort((a, b) => compareNames(a.name, b.name)), more: then.more || now.more, id: now.id };
}
