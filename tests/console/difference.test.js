// The difference of two JSON texts, and two changes of one text put together.

import assert from "node:assert/strict";
import { test } from "node:test";
import { differenceOf, excerpt, jsonPlace, sameJson } from "../../src/broker/console/difference.js";
import { compactJson } from "../../src/broker/console/format.js";
import { mergeJson } from "../../src/broker/console/merge.js";
import { anyJson, oneOf, seeded } from "./generated.js";

/** Rows as `kind path was becomes`. @param {string | null} before @param {string | null} after */
const rows = (before, after) => differenceOf(before, after).rows.map((row) => [row.kind, row.path, row.was, row.becomes]);

test("members are added, removed and changed, and each has its path", () => {
  const before = '{"a": 1, "b": {"c": [1, 2], "odd key": true}, "gone": null}';
  const after = '{"b": {"odd key": false, "c": [1, 3]}, "a": 1, "new": {"x": 1}}';
  assert.deepEqual(rows(before, after), [
    ["changed", "b.c[1]", "2", "3"],
    ["changed", 'b["odd key"]', "true", "false"],
    ["removed", "gone", "null", null],
    ["added", "new", null, '{"x":1}'],
  ]);
});

test("an element that is added to an array is one row, wherever it is", () => {
  assert.deepEqual(rows("[1,2,3]", "[0,1,2,3]"), [["added", "[0]", null, "0"]]);
  assert.deepEqual(rows("[1,2,3]", "[1,3]"), [["removed", "[1]", "2", null]]);
  assert.deepEqual(rows("[1,2,3]", "[1,9,8,3]"), [["changed", "[1]", "2", "9"], ["added", "[2]", null, "8"]]);
  assert.deepEqual(rows("[1,1]", "[1]"), [["removed", "[1]", "1", null]]);
});

test("the text of numbers counts, white space and the order of members do not", () => {
  assert.deepEqual(rows('{"n": 1}', '{"n": 1.0}'), [["changed", "n", "1", "1.0"]]);
  assert.deepEqual(rows("12345678901234567890", "12345678901234567891").length, 1);
  assert.deepEqual(differenceOf('{"a": [1, 2]}', '{"a":[1,2]}'), { rows: [], more: 0, layout: false });
  assert.deepEqual(differenceOf('{"a":1,"b":2}', '{"b":2,"a":1}'), { rows: [], more: 0, layout: true });
});

test("a whole value that comes, goes or becomes of another kind is one row", () => {
  assert.deepEqual(rows(null, "{}"), [["added", "the whole value", null, "{}"]]);
  assert.deepEqual(rows("[]", null), [["removed", "the whole value", "[]", null]]);
  assert.deepEqual(rows("[]", "{}"), [["changed", "the whole value", "[]", "{}"]]);
  assert.deepEqual(rows(null, null), []);
});

test("a long string shows the place that has changed, and how long it is", () => {
  const [[, , was, becomes]] = rows(JSON.stringify("x".repeat(2 ** 20)), JSON.stringify(`${"x".repeat(2 ** 19)}!${"x".repeat(2 ** 19)}`));
  assert.match(becomes ?? "", /^…x{30}!x+… \(1,048,579 characters\)$/);
  assert.ok((was ?? "").length < 300 && (becomes ?? "").length < 300);
  assert.equal(excerpt("short", 0), "short");
});

test("of 10,000 changes 200 are rows, and the others are counted", () => {
  const object = (/** @type {number} */ value) => JSON.stringify(Object.fromEntries(Array.from({ length: 10_000 }, (_, key) => [`k${key}`, value])));
  const { rows, more } = differenceOf(object(1), object(2));
  assert.deepEqual([rows.length, more], [200, 9_800]);
});

test("names such as __proto__ are names like all others", () => {
  assert.deepEqual(rows('{"__proto__": 1, "constructor": 2}', '{"__proto__": 2}'), [
    ["changed", "__proto__", "1", "2"],
    ["removed", "constructor", "2", null],
  ]);
});

test("changes of different members are merged, and keep the text of numbers", () => {
  const base = '{"a": 1.0, "b": {"c": 1, "d": 2}, "e": 5}';
  const merged = mergeJson(base, '{"a": 2.0, "b": {"c": 1, "d": 2}, "e": 5}', '{"a": 1.0, "b": {"c": 7.00, "d": 2}}');
  assert.deepEqual(merged, { text: '{"a":2.0,"b":{"c": 7.00, "d": 2}}', conflicts: [] });
});

test("changes of the same member are a conflict, unless they are the same", () => {
  assert.deepEqual(mergeJson('{"a": 1}', '{"a": 2}', '{"a": 3}').conflicts, ["a"]);
  assert.deepEqual(mergeJson('{"a": 1}', '{"a": 2}', '{"a": 2, "b": 1}'), { text: '{"a":2,"b":1}', conflicts: [] });
  assert.deepEqual(mergeJson('{"a": {"b": 1}}', '{"a": {"b": 2}}', "{}").conflicts, ["a"]);
  assert.deepEqual(mergeJson("[1]", "[1,2]", "[0,1]").conflicts, ["the whole value"]);
  assert.deepEqual(mergeJson('{"a": 1}', '{"a": 2}', null).conflicts, ["the whole value"]);
});

test("random texts: no difference from themselves, and a merge has both changes or names a conflict", () => {
  const random = seeded(5);
  const object = () => `{${["a", "b", "c", "d"].filter(() => random() < 0.8).map((key) => `"${key}":${oneOf(random, [anyJson(random, 3), "1", "1.0"])}`).join(",")}}`;
  let merges = 0;
  for (let round = 0; round < 4_000; round++) {
    const [base, mine, theirs] = [object(), object(), object()];
    const place = jsonPlace(base);
    assert.ok(place);
    assert.equal(differenceOf(base, compactJson(base, place.node)).rows.length, 0);
    assert.equal(differenceOf(base, mine).rows.length === 0, sameJson(place, /** @type {any} */ (jsonPlace(mine))));
    const { text, conflicts } = mergeJson(base, mine, theirs);
    if (text === undefined) {
      assert.ok(conflicts.length);
      continue;
    }
    merges++;
    // What I have changed is as I have written it; everything else is theirs.
    const own = new Set(differenceOf(base, mine).rows.map((row) => row.path.split(/[.[]/)[0]));
    const result = JSON.parse(text);
    for (const key of ["a", "b", "c", "d"]) assert.deepEqual(result[key], JSON.parse(own.has(key) && !alike(mine, theirs) ? mine : theirs)[key]);
  }
  assert.ok(merges > 100, `${merges} merges`);
});

/** @param {string} one @param {string} other */
const alike = (one, other) => JSON.stringify(JSON.parse(one)) === JSON.stringify(JSON.parse(other));
