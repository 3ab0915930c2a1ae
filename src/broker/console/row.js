// A row of the table of events: what is kept of a record, so that many rows need little memory.

const VALUE_CHARACTERS = 300; // of a value; the table shows one line of it

/** @typedef {object} Row
 * @property {string} name
 * @property {string} value  the beginning of the data as JSON, with the numbers as they were sent
 * @property {string | null} id  null: it is still pending (in a state of the future)
 * @property {string | null} place  the id by which the row has its place in the order by time
 * @property {number} at  when it was published, or is due, in milliseconds
 * @property {string | null} user
 * @property {boolean} removed
 * @property {number} version  raised by each change, so that only what has changed is drawn again
 * @property {number} flash  when a change came that was not shown yet, by the clock of `performance`; 0: there is none
 * @property {"" | "changed" | "added" | "missing"} mark  how a state of another time differs from now: the value is
 *   another one; it is not there now; it is there only now */

/** @param {string} json  a record of `GET /snapshot` or of a stream @returns {Row} */
export function rowOf(json) {
  const { event, id, user, data, timestamp, published_at } = JSON.parse(json);
  return {
    name: event,
    value: valueText(json),
    id,
    place: id,
    at: 1_000 * (published_at ?? timestamp),
    user: user ?? null,
    removed: data === null,
    version: 0,
    flash: 0,
    mark: "",
  };
}

/** The text of `data` in a record, cut. It is cut out of the text, because JSON.parse would change numbers; the server
 * sends `data` without white space, and after the name, in which a quotation mark is escaped.
 * @param {string} json */
export function valueText(json) {
  const start = json.indexOf(',"data":') + 8;
  if (start < 8) return "";
  let depth = 0;
  let quoted = false;
  let end = start;
  for (; end < json.length && end - start < VALUE_CHARACTERS; end++) {
    const character = json[end];
    if (quoted) {
      if (character === "\\") end++;
      else if (character === '"') quoted = false;
    } else if (character === '"') quoted = true;
    else if (character === "{" || character === "[") depth++;
    else if ((character === "}" || character === "]" || character === ",") && depth === 0) break;
    else if (character === "}" || character === "]") depth--;
  }
  const cut = end - start >= VALUE_CHARACTERS ? "…" : "";
  return flat(json.slice(start, end).replace(/[\uD800-\uDBFF]$/, "") + cut);
}

/** A text that does not keep the longer one in memory of which it was a part. @param {string} text */
const flat = (text) => ` ${text}`.slice(1);

/** The order of names on the server, which is by their bytes: as the order by code points, and unlike the one of
 * JavaScript where a name has characters beyond U+FFFF. @param {string} a @param {string} b */
export function compareNames(a, b) {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    const one = a.charCodeAt(index);
    const other = b.charCodeAt(index);
    // Surrogates, of which such characters are made, come after all other units.
    if (one !== other) return surrogate(one) === surrogate(other) ? one - other : surrogate(one) ? 1 : -1;
  }
  return a.length - b.length;
}

/** @param {Pick<Row, "name">} a @param {Pick<Row, "name">} b */
export const byNames = (a, b) => compareNames(a.name, b.name);

/** @param {number} unit */
const surrogate = (unit) => unit >= 0xd800 && unit < 0xe000;

/** The rows of newer versions come first. @param {Pick<Row, "place">} a @param {Pick<Row, "place">} b */
export function compareNewest(a, b) {
  return numberOf(b.place) - numberOf(a.place);
}

/** Whether a version is newer than another one of the same log. @param {string | null} id @param {string | null} other */
export function isNewer(id, other) {
  return numberOf(id) > numberOf(other);
}

/** The number at the end of an id, which is all that a page may read from it; -1 without an id. @param {string | null} id */
function numberOf(id) {
  return id ? Number(id.slice(id.lastIndexOf("-") + 1)) : -1;
}
