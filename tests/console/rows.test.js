// The rows of the table: what is kept of a record, the part of the list that is in memory, and what moves when.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Listing } from "../../src/broker/console/listing.js";
import { LiveRows } from "../../src/broker/console/live.js";
import { compareNames, compareNewest, isNewer, rowOf, valueText } from "../../src/broker/console/row.js";
import { hasWords, placesOf, wordsOf } from "../../src/broker/console/marked.js";
import { withWords } from "../../src/broker/console/snapshot.js";
import { byTimes, compared } from "../../src/broker/console/then.js";

/** @import { Cursor } from "../../src/broker/console/listing.js" */
/** @import { Row } from "../../src/broker/console/row.js" */

/** @param {string} name @param {number} number @param {unknown} [data] */
const record = (name, number, data = number) =>
  rowOf(JSON.stringify({ id: `log-${number}`, uuid: "u", event: name, user: "ada", timestamp: 1, published_at: 2, data }));

/** A server with these rows, in the order by name or the newest first.
 * @param {Row[]} all @param {(a: Row, b: Row) => number} compare */
function serverOf(all, compare) {
  const asked = /** @type {(string | undefined)[]} */ ([]);
  /** @param {Cursor | null} behind @param {number} limit */
  const load = async (behind, limit) => {
    asked.push(behind?.name);
    const sorted = [...all].sort(compare);
    const from = behind ? sorted.findIndex((each) => compare(each, /** @type {Row} */ (behind)) > 0) : 0;
    const rows = from < 0 ? [] : sorted.slice(from, from + limit);
    return { rows: rows.map((each) => ({ ...each })), more: from >= 0 && from + limit < sorted.length, id: "log-1000000" };
  };
  return { load, asked };
}

const many = (/** @type {number} */ count) => Array.from({ length: count }, (_, index) => record(`e/${String(index).padStart(6, "0")}`, index + 1));

test("a value is shown as it was sent, with the digits of its numbers", () => {
  const line = '{"id":"a-1","uuid":"u","event":"x\\",\\"data\\":1","user":null,"timestamp":1,"published_at":1,"data":{"n":1.10000000000000000001,"s":"}]\\",\\"","a":[1,{}]}}';
  assert.equal(valueText(line), '{"n":1.10000000000000000001,"s":"}]\\",\\"","a":[1,{}]}');
  const listed = '{"uuid":"u","event":"x","timestamp":1,"published":true,"cancelled":false,"data":12e400,"id":"a-1","user":"ada"}';
  assert.equal(valueText(listed), "12e400");
  assert.equal(valueText('{"event":"x","data":"a,b","id":null}'), '"a,b"');
});

test("a long value is cut, and not within a character", () => {
  const text = valueText(JSON.stringify({ event: "x", data: `${"a".repeat(298)}😀😀` }));
  assert.ok(text.length <= 301 && text.endsWith("a…"));
});

test("names are in the order of their bytes", () => {
  const names = ["b", "a/b", "a", "\u{10000}", "\uffee", "ä", "a/", ""];
  const bytes = (/** @type {string} */ name) => Buffer.from(name);
  assert.deepEqual([...names].sort(compareNames), [...names].sort((a, b) => Buffer.compare(bytes(a), bytes(b))));
});

test("the newest version has the largest number", () => {
  assert.ok(compareNewest(record("a", 10), record("b", 9)) < 0);
  assert.ok(isNewer("log-10", "log-9") && !isNewer("log-9", "log-9") && isNewer("log-1", null) && !isNewer(null, "log-1"));
});

for (const [order, compare] of /** @type {const} */ ([["newest", compareNewest], ["name", (/** @type {Row} */ a, /** @type {Row} */ b) => compareNames(a.name, b.name)]]))
  test(`a list of 5,000 rows (${order}) is read page by page, and not kept as a whole`, async () => {
    const all = many(5_000);
    const { load } = serverOf(all, compare);
    const listing = new Listing(load, compare);
    await listing.begin();
    const sorted = [...all].sort(compare);
    for (let first = 0; listing.more; first = listing.length - 20) {
      assert.equal(listing.at(first).name, sorted[first].name);
      await listing.extend(first);
      assert.ok(listing.rows.length <= 2_000);
    }
    assert.equal(listing.length, 5_000);
    assert.equal(listing.at(4_999).name, sorted[4_999].name);
    while (listing.offset) assert.equal(await listing.back(), 0);
    assert.deepEqual(listing.rows.map((each) => each.name), sorted.slice(0, listing.rows.length).map((each) => each.name));
    assert.ok(listing.rows.length <= 2_000 && listing.more);
  });

test("a page that was dropped, and has fewer rows meanwhile, says by how many the list is shorter", async () => {
  const all = many(3_000);
  const { load } = serverOf(all, compareNewest);
  const listing = new Listing(load, compareNewest);
  await listing.begin();
  for (let first = 0; listing.more; first = listing.length - 20) await listing.extend(first);
  const [shown] = listing.rows;
  const offset = listing.offset;
  all.splice(all.length - offset + 10, 5); // among the rows that were dropped last
  assert.equal(await listing.back(), -5);
  assert.equal(listing.at(offset - 5).name, shown.name);
});

test("a change is shown in place at once, and the row moves later", async () => {
  const { load } = serverOf(many(10), compareNewest);
  const listing = new Listing(load, compareNewest);
  await listing.begin();
  listing.id = "log-10";
  const live = new LiveRows(listing, true);
  live.take(record("e/000003", 11, "new"));
  live.take(record("other", 12));
  assert.deepEqual([listing.at(6).name, listing.at(6).value, listing.length, live.waiting], ["e/000003", '"new"', 10, 2]);
  live.settle();
  assert.deepEqual(listing.rows.slice(0, 3).map((each) => each.name), ["other", "e/000003", "e/000009"]);
  assert.deepEqual([listing.length, live.waiting], [11, 0]);
});

test("an older version than the one that is shown changes nothing, as a list that was read meanwhile has it already", async () => {
  const { load } = serverOf(many(3), compareNewest);
  const listing = new Listing(load, compareNewest);
  await listing.begin();
  const live = new LiveRows(listing, true);
  live.take(record("e/000001", 1, "old"));
  assert.equal(listing.at(1).value, "2");
  assert.equal(live.waiting, 0);
});

test("in the order by name only new names take a place, and only within what is in memory", async () => {
  const byName = (/** @type {Row} */ a, /** @type {Row} */ b) => compareNames(a.name, b.name);
  const { load } = serverOf(many(500), byName);
  const listing = new Listing(load, byName);
  await listing.begin();
  const { length } = listing;
  const live = new LiveRows(listing, false);
  live.take(record("e/000003", 1_001)); // known
  live.take(record("e/000003a", 1_002)); // new
  live.take(record("e/000400", 1_003)); // not in memory
  assert.equal(live.waiting, 1);
  live.settle();
  assert.deepEqual([listing.at(4).name, listing.length], ["e/000003a", length + 1]);
});

test("a removed row stays where it is, without its value being lost, until the list is read again", async () => {
  const { load } = serverOf(many(3), compareNewest);
  const listing = new Listing(load, compareNewest);
  await listing.begin();
  const live = new LiveRows(listing, true);
  live.take(record("e/000001", 11, null));
  assert.deepEqual([listing.at(1).removed, listing.at(1).value, live.waiting], [true, "2", 0]);
});

test("what waits is bounded, and then the list is to be read again", async () => {
  const { load } = serverOf(many(3), compareNewest);
  const listing = new Listing(load, compareNewest);
  await listing.begin();
  const live = new LiveRows(listing, true);
  for (let number = 1; number <= 3_000; number++) live.take(record(`new/${number}`, 1_000_000 + number));
  assert.deepEqual([live.waiting, live.overflow], [1_000, true]);
  await live.begin();
  assert.deepEqual([live.waiting, live.overflow], [1_000, false]); // all of them are newer than the list
});

test("what comes while the list is read is not lost, and what the list has already is not shown twice", async () => {
  const all = many(3);
  const { load } = serverOf(all, compareNewest);
  const listing = new Listing(async (...parts) => ({ ...(await load(...parts)), id: "log-3" }), compareNewest);
  const live = new LiveRows(listing, true);
  const reading = live.begin();
  live.take(record("e/000001", 2, "in the list"));
  live.take(record("e/000002", 4, null));
  live.take(record("new", 5));
  await reading;
  assert.deepEqual([listing.at(1).value, listing.at(0).removed, live.waiting], ["2", true, 1]);
});

test("the state of another time has marks where it differs from now, and the rows that only now has", () => {
  const page = (/** @type {Row[]} */ rows, more = false) => ({ rows, more, id: "" });
  const then = page([record("a", 1), record("b", 2), record("c", 3)]);
  const now = page([record("b", 2), record("c", 5), record("d", 4)]);
  const marks = (/** @type {{rows: Row[]}} */ { rows }) => rows.map(({ name, mark, value }) => [name, mark, value]);
  assert.deepEqual(marks(compared(then, now)), [["a", "added", "1"], ["b", "", "2"], ["c", "changed", "3"], ["d", "missing", ""]]);
  assert.deepEqual(marks(compared(then, { ...now, more: true, rows: now.rows.slice(0, 1) })), [["a", "added", "1"], ["b", "", "2"]]);
});

test("the state of another time begins with the latest version, and ends with what has none then", () => {
  const rows = [
    { ...record("old", 1), at: 10 }, { ...record("gone", 9), at: 90, mark: /** @type {const} */ ("missing") },
    { ...record("planned", 2), id: null, place: null, at: 99 }, { ...record("b", 3), at: 20 }, { ...record("a", 4), at: 20 },
  ];
  assert.deepEqual(rows.sort(byTimes).map((each) => each.name), ["planned", "a", "b", "old", "gone"]);
});

test("the words of a search are found wherever they are, in any case, and once where they overlap", () => {
  assert.deepEqual(wordsOf(" Orders  7 "), ["orders", "7"]);
  assert.ok(hasWords("ORDERS/17", ["orders", "7"]) && !hasWords("orders/1", ["orders", "7"]));
  assert.deepEqual(placesOf("Orders/orders/7", ["orders", "7"]), [[0, 6], [7, 13], [14, 15]]);
  assert.deepEqual(placesOf("banana", ["an", "nana"]), [[1, 6]]);
  assert.deepEqual(placesOf("İstanbul", ["stan"]), []);
});

test("several words are looked for in as many pages as it takes, and the next page begins where they ended", async () => {
  const names = Array.from({ length: 25_000 }, (_, index) => record(`orders/${index % 5_000 === 4_999 ? "x" : "y"}/${String(index).padStart(5, "0")}`, index + 1));
  const byName = (/** @type {Row} */ a, /** @type {Row} */ b) => compareNames(a.name.slice(9), b.name.slice(9));
  const { load, asked } = serverOf(names, byName);
  const words = withWords(load, "orders /x/");
  const few = await words(null, 1);
  assert.deepEqual([few.rows.map((each) => each.name), few.more], [["orders/x/04999"], true]);
  const listing = new Listing(words, byName);
  await listing.begin();
  asked.length = 0;
  while (listing.more) await listing.extend(0);
  assert.deepEqual(listing.rows.map((each) => each.name.slice(9)), ["04999", "09999", "14999", "19999", "24999"]);
  assert.ok(asked.length <= 30);
});

test("the rows below begin where the last page ended, also if its last row has moved", async () => {
  const { load, asked } = serverOf(many(500), compareNewest);
  const listing = new Listing(load, compareNewest);
  await listing.begin();
  const { length } = listing;
  const last = /** @type {Row} */ (listing.rows.at(-1)).name;
  listing.place([Object.assign(/** @type {Row} */ (listing.rows.at(-1)), { place: "log-501", id: "log-501" })]);
  await listing.extend(0);
  assert.equal(asked.at(-1), last);
  assert.equal(listing.length, length + 200);
});
