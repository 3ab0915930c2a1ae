// Differences as tables.

import { differenceOf, excerpt, jsonPlace } from "./difference.js";
import { formatJson } from "./format.js";
import { h } from "./h.js";

/** @import { Child } from "./types.js" */
/** @import { Difference, DifferenceRow } from "./difference.js" */

const THREE_WAY_MAX = 100; // rows that are shown
const PRETTY_LINES_MAX = 20_000; // 100,000 lines take two seconds
const KIND_SIGNS = { added: "+", removed: "−", changed: "~" };

/** What is changed between two texts, as a table; or a sentence if nothing is.
 * @param {string | null} before @param {string | null} after @param {[string, string]} [titles] */
export function differenceTable(before, after, titles = ["Was", "Becomes"]) {
  const difference = differenceOf(before, after);
  if (!difference.rows.length) return h("p", { class: "muted" }, unchanged(difference));
  return h("div", { class: "event-difference", tabindex: "0", role: "region", "aria-label": "Changes" },
    changesTable(["Path", ...titles], difference.rows.map(differenceRow)),
    difference.more > 0 && h("p", { class: "muted" }, `… and ${difference.more.toLocaleString("en")} more changes`));
}

/** @param {Difference} difference */
const unchanged = ({ layout }) => (layout ? "No value differs, only the order of members." : "No value differs.");

/** The roles are said, because a narrow window shows the rows as blocks. @param {Child[]} titles @param {Element[]} rows */
function changesTable(titles, rows) {
  const heads = titles.map((title) => h("th", { scope: "col", role: "columnheader" }, title));
  return h("table", { role: "table", class: heads.length > 3 && "event-three" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), h("tbody", { role: "rowgroup" }, rows));
}

/** @param {DifferenceRow} row */
function differenceRow({ kind, path, was, becomes }) {
  return h("tr", { class: `event-${kind}`, role: "row" },
    h("th", { scope: "row", role: "rowheader" }, h("span", { class: "event-sign", title: kind, role: "img", "aria-label": kind }, KIND_SIGNS[kind]), h("bdi", null, path)),
    valueCell(was), valueCell(becomes));
}

/** @param {string | null | undefined} text */
const valueCell = (text) => h("td", { role: "cell" }, text === null || text === undefined ? h("span", { class: "muted" }, "—") : h("bdi", null, text));

/** What two people have made of the same text: a row for each path that either of them has changed.
 * @param {string | null} base @param {string | null} mine @param {string | null} theirs @param {Child} author */
export function threeWayTable(base, mine, theirs, author) {
  const own = new Map(differenceOf(base, mine).rows.map((row) => [row.path, row]));
  const other = new Map(differenceOf(base, theirs).rows.map((row) => [row.path, row]));
  const paths = [...new Set([...own.keys(), ...other.keys()])];
  const rows = paths.slice(0, THREE_WAY_MAX).map((path) => {
    const [a, b] = [own.get(path), other.get(path)];
    const was = (a ?? b)?.was ?? null;
    const both = Boolean(a && b && a.becomes !== b.becomes);
    return h("tr", { class: both && "event-both", role: "row" }, h("th", { scope: "row", role: "rowheader" }, h("bdi", null, path), both && h("span", { class: "badge danger" }, "both")),
      valueCell(was), valueCell(a ? a.becomes : was), valueCell(b ? b.becomes : was));
  });
  return h("div", { class: "event-difference", tabindex: "0", role: "region", "aria-label": "Both changes" },
    changesTable(["Path", "Before", "Yours", author], rows),
    paths.length > rows.length && h("p", { class: "muted" }, `… and ${(paths.length - rows.length).toLocaleString("en")} more paths`));
}

/** JSON text in lines, if it is valid, and if these are not more than a browser lays out at once. @param {string} text */
export function prettyJson(text) {
  const place = jsonPlace(text);
  if (!place) return text;
  const formatted = formatJson(text, place.node);
  return formatted.split("\n", PRETTY_LINES_MAX + 1).length > PRETTY_LINES_MAX ? text : formatted;
}

/** A value in one line, cut. @param {string} text @param {number} [length] */
export const oneLine = (text, length = 160) => (text.length > length ? excerpt(text, 0, length) : text);

const CHANGE_CHARACTERS_MAX = 20_000; // more takes too long for each row of a list
const CHANGE_PATHS_MAX = 3;

/** What is changed between two texts, in one line: `price 24.90 → 22.90`. Empty if it is nothing, or too much.
 * @param {string} before @param {string} after */
export function changeText(before, after) {
  if (before.length + after.length > CHANGE_CHARACTERS_MAX || before === "null" || after === "null") return "";
  const { rows, more } = differenceOf(before, after);
  const texts = rows.slice(0, CHANGE_PATHS_MAX).map(({ kind, path, was, becomes }) => {
    if (kind === "removed") return `−${path}`;
    return kind === "added" ? `+${path} ${oneLine(becomes ?? "", 40)}` : `${path} ${oneLine(was ?? "", 40)} → ${oneLine(becomes ?? "", 40)}`;
  });
  return [...texts, ...(rows.length + more > CHANGE_PATHS_MAX ? [`${rows.length + more - CHANGE_PATHS_MAX} more`] : [])].join(", ");
}
