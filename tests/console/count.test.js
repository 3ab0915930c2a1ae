// The count of a stream, and the proof that nothing is missing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { StreamCount } from "../../src/broker/console/count.js";
import { figuresClaim, figuresReason } from "../../src/broker/console/figures.js";

const record = (/** @type {number} */ number) => ({ id: `ab-cd-${number}`, event: "sale", data: "1" });
const own = (/** @type {string} */ name, /** @type {object} */ data, /** @type {number} */ number) =>
  ({ ...(number ? { id: `ab-cd-${number}` } : {}), event: `$${name}`, data: JSON.stringify(data) });

/** @param {StreamCount} count @param {{id?: string, event?: string, data?: string}[]} frames */
const take = (count, ...frames) => frames.forEach((each) => count.take(each));

/** @param {string} from */
function counted(from, filtered = false) {
  const count = new StreamCount(filtered);
  count.opened(from);
  return count;
}

test("ids that follow each other prove that nothing is missing", () => {
  const count = counted("ab-cd-7");
  take(count, record(8), own("ready", {}, 8), record(9), record(10));
  assert.equal(figuresClaim(count), "3 received, 0 missing");
  assert.equal(count.id, "ab-cd-10");
});

test("a stream that begins with the state has gaps until it is ready, and says so", () => {
  const count = counted("");
  take(count, record(3), record(9), own("ready", {}, 12), record(13));
  assert.equal(figuresClaim(count), "3 received, 0 missing");
  assert.match(figuresReason(count), /gaps until \$ready/);
});

test("a gap is missing, wherever it is", () => {
  const count = counted("ab-cd-7");
  take(count, record(9), own("ready", {}, 11), record(14));
  assert.equal(figuresClaim(count), "2 received, 5 missing");
});

test("the state has gaps, and the count begins behind it", () => {
  const count = counted("");
  take(count, record(3), record(40), own("ready", {}, 41), record(42));
  assert.equal(figuresClaim(count), "3 received, 0 missing");
  take(count, record(44));
  assert.equal(count.missing, 1);
});

test("a stream that is opened again goes on where it was", () => {
  const count = counted("");
  take(count, own("ready", {}, 5), record(6));
  count.opened("ab-cd-6");
  take(count, record(7), own("ready", {}, 7), record(8));
  assert.equal(figuresClaim(count), "3 received, 0 missing");
  count.opened("ab-cd-8");
  take(count, record(10));
  assert.equal(count.missing, 1);
});

test("what comes twice is said", () => {
  const count = counted("ab-cd-7");
  take(count, record(8), record(8), record(9));
  assert.deepEqual([count.received, count.missing, count.repeated], [3, 0, 1]);
  assert.match(figuresReason(count), /1 came twice/);
});

test("positions that are not shown count as received, if they are announced", () => {
  const count = counted("ab-cd-7");
  take(count, own("passed", { positions: 3 }, 10), record(11));
  assert.deepEqual([count.missing, count.passed], [0, 3]);
  take(count, own("passed", { positions: 1 }, 13));
  assert.deepEqual([count.missing, count.passed], [1, 4]);
  assert.match(figuresReason(count), /4 positions are Broker's own/);
});

test("what the server leaves out is not missing, because it says so", () => {
  const count = counted("ab-cd-7");
  take(count, own("skipped", { positions: 5_000 }, 0), record(4_000), own("ready", {}, 5_007), record(5_008));
  assert.deepEqual([count.missing, count.skipped], [0, 5_000]);
  take(count, own("reset", { reason: "too-old" }, 0), record(1), own("ready", {}, 6_000), record(6_001));
  assert.deepEqual([count.missing, count.resets], [0, 1]);
});

test("heartbeats and hints change nothing", () => {
  const count = counted("ab-cd-7");
  take(count, own("heartbeat", { time: 1 }, 0), own("pending", {}, 0), record(8));
  assert.equal(figuresClaim(count), "1 received, 0 missing");
});

test("a stream that shows only a part promises no count", () => {
  const filtered = counted("ab-cd-7", true);
  take(filtered, record(20), { id: "ab-cd-30" }, own("ready", {}, 30));
  assert.equal(figuresClaim(filtered), "1 received");
  assert.match(figuresReason(filtered), /only a part, so ids do not count/);
  const hidden = counted("ab-cd-7");
  take(hidden, own("ready", { partial: true }, 7), record(20));
  assert.equal(figuresClaim(hidden), "1 received");
  assert.match(figuresReason(hidden), /rules hide a part/);
});
