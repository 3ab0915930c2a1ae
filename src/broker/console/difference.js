// The difference of two JSON texts, path by path.

import { compactJson } from "./format.js";
import { readJson } from "./json.js";

/** @import { JsonMember, JsonNode } from "./json.js" */

const DIFFERENCE_ROWS_MAX = 200; // that are shown; the others are counted
const DIFFERENCE_TEXT_MAX = 240; // characters of a value that are shown
const LEAD_IN = 30; // characters before the first one that differs in two long texts

/** What has changed at one path. `was` is null for what was added, `becomes` for what was removed. Both are cut if they are long.
 * @typedef {{kind: "added" | "removed" | "changed", path: string, was: string | null, becomes: string | null}} DifferenceRow
 *
 * `more` is how many rows there are beyond those that are shown. `layout`: no value differs, but the texts do, for example in the
 * order of members. @typedef {{rows: DifferenceRow[], more: number, layout: boolean}} Difference */

/** A value in a text. @typedef {{text: string, node: JsonNode}} JsonPlace */

/** @param {string | null} before  JSON; null: there was nothing @param {string | null} after @returns {Difference} */
export function differenceOf(before, after) {
  const one = jsonPlace(before);
  const other = jsonPlace(after);
  const found = new Differences();
  if (one && other) found.compare("", one, other);
  else if (one || other) found.add("", one, other);
  const layout = found.rows.length === 0 && !!one && !!other && compactOf(one) !== compactOf(other);
  return { rows: found.rows, more: found.count - found.rows.length, layout };
}

/** @param {string | null} text @returns {JsonPlace | null} */
export function jsonPlace(text) {
  const node = text === null ? undefined : readJson(text).node;
  return node ? { text: /** @type {string} */ (text), node } : null;
}

/** @param {JsonPlace} place */
const compactOf = ({ text, node }) => compactJson(text, node);

/** Whether two values are written alike, but for the order of members and white space. @param {JsonPlace} one @param {JsonPlace} other @returns {boolean} */
export function sameJson(one, other) {
  const a = one.node;
  const b = other.node;
  if (a.kind !== b.kind || a.items.length !== b.items.length || a.members.length !== b.members.length) return false;
  if (a.kind === "array") return a.items.every((node, index) => sameJson({ text: one.text, node }, { text: other.text, node: b.items[index] }));
  if (a.kind !== "object") return a.end - a.start === b.end - b.start && one.text.slice(a.start, a.end) === other.text.slice(b.start, b.end);
  const theirs = membersByKey(other);
  return [...membersByKey(one)].every(([key, place]) => {
    const match = theirs.get(key);
    return match !== undefined && sameJson(place, match);
  });
}

/** The members of an object by their names. Of two with the same name, the last one counts, as for every reader.
 * @param {JsonPlace} place @returns {Map<string, JsonPlace & {member: JsonMember}>} */
export function membersByKey({ text, node }) {
  return new Map(node.members.map((member) => [member.key, { text, node: member.value, member }]));
}

class Differences {
  /** @type {DifferenceRow[]} */
  rows = [];
  count = 0;

  /** @param {string} path @param {JsonPlace} one @param {JsonPlace} other */
  compare(path, one, other) {
    const { kind } = one.node;
    if (kind !== other.node.kind) this.add(path, one, other);
    else if (kind === "object") this.#members(path, one, other);
    else if (kind === "array") this.#items(path, one, other);
    else if (!sameJson(one, other)) this.add(path, one, other);
  }

  /** @param {string} path @param {JsonPlace | null | undefined} one @param {JsonPlace | null | undefined} other */
  add(path, one, other) {
    this.count++;
    if (this.rows.length === DIFFERENCE_ROWS_MAX) return;
    const was = one ? compactOf(one) : null;
    const becomes = other ? compactOf(other) : null;
    const from = was !== null && becomes !== null && one?.node.kind === "string" ? Math.max(0, firstDifference(was, becomes) - LEAD_IN) : 0;
    const kind = was === null ? "added" : becomes === null ? "removed" : "changed";
    this.rows.push({ kind, path: path || "the whole value", was: was && excerpt(was, from), becomes: becomes && excerpt(becomes, from) });
  }

  /** @param {string} path @param {JsonPlace} one @param {JsonPlace} other */
  #members(path, one, other) {
    const before = membersByKey(one);
    const after = membersByKey(other);
    for (const [key, place] of before) {
      const match = after.get(key);
      if (match) this.compare(memberPath(path, key), place, match);
      else this.add(memberPath(path, key), place, null);
    }
    for (const [key, place] of after) if (!before.has(key)) this.add(memberPath(path, key), null, place);
  }

  /** What two arrays have in common at their beginnings and ends is left out, so that one element more is one row. Elements
   * that were removed have their old index. @param {string} path @param {JsonPlace} one @param {JsonPlace} other */
  #items(path, one, other) {
    const before = one.node.items.map((node) => ({ text: one.text, node }));
    const after = other.node.items.map((node) => ({ text: other.text, node }));
    const shorter = Math.min(before.length, after.length);
    let head = 0;
    while (head < shorter && sameJson(before[head], after[head])) head++;
    let tail = 0;
    while (tail < shorter - head && sameJson(before[before.length - 1 - tail], after[after.length - 1 - tail])) tail++;
    for (let index = head; index < Math.max(before.length, after.length) - tail; index++) {
      const place = `${path}[${index}]`;
      if (index >= before.length - tail) this.add(place, null, after[index]);
      else if (index >= after.length - tail) this.add(place, before[index], null);
      else this.compare(place, before[index], after[index]);
    }
  }
}

/** @param {string} path @param {string} key */
export function memberPath(path, key) {
  if (!/^[\p{L}_$][\p{L}\p{N}_$-]*$/u.test(key)) return `${path}[${excerpt(JSON.stringify(key), 0)}]`;
  return path ? `${path}.${key}` : key;
}

/** @param {string} one @param {string} other */
function firstDifference(one, other) {
  let at = 0;
  while (at < one.length && one[at] === other[at]) at++;
  return at;
}

/** A part of a text, with a word about what is left out. @param {string} text @param {number} from */
export function excerpt(text, from, length = DIFFERENCE_TEXT_MAX) {
  if (text.length <= length) return text;
  const end = from + length;
  return `${from ? "…" : ""}${text.slice(from, end)}${end < text.length ? "…" : ""} (${text.length.toLocaleString("en")} characters)`;
}
