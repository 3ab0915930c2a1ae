// The parser of Broker's frames, beside a parser of any frames.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createParser, reached } from "../../src/broker/js/frames.js";

const STREAM =
  'retry: 2417\nid: a-1\ndata: {"n":1,"text":"zwölf: \\n event: no"}\n\n:\n' +
  'id: a-9\n\nevent: $ready\nid: a-9\ndata: {"heartbeat":15}\n\n:\n:\ndata: {"new":true}\n\n' +
  `id: a-10\ndata: ${JSON.stringify("😀".repeat(50))}\n\nid: a-11\n\n`;

/** @param {string[]} pieces */
function parsed(pieces) {
  /** @type {any[]} */
  const all = [];
  const parse = createParser((frame) => all.push(frame), (milliseconds) => all.push(milliseconds));
  pieces.forEach(parse);
  return all;
}

/** @param {string} text @param {number} size */
const cut = (text, size) => text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];

test("T9: frames are the same however they are cut, and a block without data moves the id", () => {
  const whole = parsed([STREAM]);
  assert.deepEqual(whole.map((frame) => frame.id ?? frame), [2417, "a-1", "a-9", "a-9", { data: '{"new":true}' }, "a-10", "a-11"]);
  for (let size = 1; size < 40; size++) assert.deepEqual(parsed(cut(STREAM, size)), whole);
});

test("heartbeats are counted by those who ask for them", () => {
  let count = 0;
  const parse = createParser(() => {}, () => {}, () => count++);
  cut(STREAM, 3).forEach(parse);
  assert.equal(count, 3);
});

test("it reads what eventsource-parser reads", async (t) => {
  const other = await import("eventsource-parser").catch(() => undefined);
  if (!other) return t.skip("NOT COMPARED: npm has not installed eventsource-parser");
  /** @type {any[]} */
  const expected = [];
  const parser = other.createParser({
    onEvent: ({ id, event, data }) => expected.push({ id, event, data }),
    onRetry: (milliseconds) => expected.push(milliseconds),
  });
  parser.feed(STREAM);
  const found = parsed([STREAM]).filter((frame) => frame.data !== undefined || typeof frame === "number");
  assert.deepEqual(JSON.stringify(found.map(({ id, event, data }) => ({ id, event, data }))), JSON.stringify(expected.map((each) => (typeof each === "number" ? {} : each))));
});

test("T45: a long frame in small pieces takes linear time, and one without an end is an error", () => {
  const time = (/** @type {number} */ length) => {
    const pieces = cut(`data: "${"x".repeat(length)}"\n\n`, 4);
    const begin = performance.now();
    assert.equal(parsed(pieces)[0].data.length, length + 2);
    return performance.now() - begin;
  };
  const best = (/** @type {number} */ length) => Math.min(...[1, 2, 3].map(() => time(length)));
  const [short, long] = [best(5e4), best(8e5)];
  assert.ok(long < 64 * short, `${long} ms in place of ${short} ms`);
  const parse = createParser(() => {}, () => {});
  assert.throws(() => {
    for (;;) parse("x".repeat(1 << 20));
  }, /too long/);
});

test("of two ids of one log the larger number is the later one, and ids of two logs cannot be compared", () => {
  assert.ok(reached("a-10", "a-9") && reached("a-9", "a-9") && reached("a-b-10", "a-b-2"));
  assert.ok(!reached("a-9", "a-10") && !reached("b-99", "a-1") && !reached("a-9", "a-b-1"));
});
