// The time line of the schedule, its groups, and its count-downs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { countDown } from "../../src/broker/console/entry.js";
import { entryGroup } from "../../src/broker/console/entrylist.js";
import { timelinePlaces, timelineSpan, timelineX } from "../../src/broker/console/timeline.js";

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const DAY = 24 * HOUR;

test("twenty seconds and three months can both be seen", () => {
  const span = timelineSpan(90 * DAY);
  const places = [0, 20 * SECOND, HOUR, DAY, 90 * DAY].map((each) => timelineX(each, span, 1_000));
  for (let index = 1; index < places.length; index++) assert.ok(places[index] - places[index - 1] > 50, String(places));
  assert.ok(places[4] <= 1_000);
});

test("a time line reaches to the last entry, and an hour at least", () => {
  assert.equal(timelineSpan(0), HOUR);
  assert.equal(timelineSpan(25 * HOUR), 7 * DAY);
  const year9999 = 8_000 * 365 * DAY;
  assert.equal(timelineSpan(year9999), year9999);
  assert.ok(timelineX(-DAY, HOUR, 500) === timelineX(0, HOUR, 500)); // what is due is at now
});

test("labels do not cover each other as long as there are lanes", () => {
  const mark = (/** @type {number} */ at) => ({ key: String(at), label: "orders/1007", kind: /** @type {const} */ ("insert"), at });
  const places = timelinePlaces([10, 11, 12, 13].map((each) => mark(each * SECOND)), 0, HOUR, 800);
  assert.deepEqual(places.map((each) => each.lane), [0, 1, 2, 3]);
  assert.equal(timelinePlaces(Array.from({ length: 5_000 }, (_, index) => mark(index)), 0, HOUR, 800).length, 120);
  // At the right end, the label is before the mark.
  assert.equal(timelinePlaces([mark(HOUR)], 0, HOUR, 800)[0].before, true);
});

test("count-downs say two units while the first is small", () => {
  const cases = /** @type {[number, string][]} */ ([
    [-5, "now"], [0, "now"], [1, "1 s"], [11_001, "12 s"], [60 * SECOND, "1 min"], [200 * SECOND, "3 min 20 s"], [20 * 60 * SECOND + SECOND, "20 min"],
    [2 * HOUR + 300 * SECOND, "2 h 5 min"], [DAY, "1 day"], [DAY + 4 * HOUR, "1 day 4 h"], [92 * DAY, "92 days"],
  ]);
  for (const [left, text] of cases) assert.equal(countDown(left), text);
});

test("entries are in groups by their time", () => {
  const now = new Date(2030, 0, 15, 12).getTime();
  const cases = [[-DAY, 0], [60 * SECOND, 0], [61 * SECOND, 1], [11 * HOUR, 1], [12 * HOUR, 2], [35 * HOUR, 2], [36 * HOUR, 3], [6 * DAY, 3], [7 * DAY, 4], [9_000 * DAY, 4]];
  for (const [ahead, group] of cases) assert.equal(entryGroup(now + ahead, now), group, String(ahead));
});
