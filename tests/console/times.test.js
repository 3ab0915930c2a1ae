// Times in words, and in the fields of forms.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, duration, fromLocalInput, fullTime, localInput, timeOf, timeText } from "../../src/broker/console/times.js";

const NOW = Date.UTC(2030, 0, 15, 12, 0, 0);

test("how long ago, and how long from now", () => {
  const cases = /** @type {[number, string][]} */ ([
    [0, "now"], [999, "now"], [-999, "now"], [1_000, "1 s ago"], [59_999, "59 s ago"], [60_000, "1 min ago"], [-90_000, "in 1 min"],
    [3_600_000, "1 h ago"], [86_400_000, "1 day ago"], [-172_800_000, "in 2 days"], [40 * 86_400_000, "1 month ago"], [800 * 86_400_000, "2 years ago"],
  ]);
  for (const [before, text] of cases) assert.equal(ago(NOW - before, NOW), text);
  assert.equal(duration(0), "0 s");
});

test("a time comes back from the field of a form, to the second", () => {
  for (const time of [NOW, Date.UTC(2030, 6, 1, 0, 30, 59), 0]) assert.equal(fromLocalInput(localInput(time)), time);
  assert.equal(fromLocalInput(""), NaN);
});

test("a time that no calendar has is no error", () => {
  for (const time of [9e15, -9e15, Infinity]) assert.equal(timeText(time), "beyond all calendars");
  assert.equal(fullTime(NaN), "beyond all calendars");
});

test("an address has seconds or a date", () => {
  assert.equal(timeOf("1700000000.125"), 1_700_000_000_125);
  assert.equal(timeOf("2030-01-15T12:00:00Z"), NOW);
  for (const text of [null, "", "now", "99999999999999", "1e3x"]) assert.equal(timeOf(text), null);
});
