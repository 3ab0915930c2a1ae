// The state at another time, beside the one now.

import { Listing } from "./listing.js";
import { byNames, compareNames } from "./row.js";
import { readRows } from "./snapshot.js";

/** @import { LoadRows } from "./listing.js" */
/** @import { Row } from "./row.js" */
/** @import { Page, Selected } from "./snapshot.js" */
/** @import { Context } from "./types.js" */

/** The list of a time. If the list of now is there as a whole, and short, its order is kept, so that nothing moves but
 * the values. @param {Context} ctx @param {Selected} selected @param {() => number} at  milliseconds
 * @param {Listing} now */
export function listingThen(ctx, selected, at, now) {
  const places = new Map(now.more ? [] : now.rows.map((row, index) => [row.name, index]));
  const place = (/** @type {Row} */ row) => places.get(row.name) ?? Infinity;
  const load = loadThen(ctx, selected, at);
  return new Listing(async (behind, limit) => {
    const page = await load(behind, limit);
    if (places.size && !page.more) page.rows.sort((a, b) => (place(a) === place(b) ? byNames(a, b) : place(a) - place(b)));
    return page;
  }, byNames);
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
