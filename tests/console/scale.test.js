// The scale of the slider.

import assert from "node:assert/strict";
import { test } from "node:test";

import { SCALE_STEPS, offsetAt, positionOf, timeAt } from "../../src/broker/console/scale.js";

test("the middle is now, and the ends are a year away", () => {
  assert.equal(offsetAt(0), 0);
  assert.equal(Math.round(offsetAt(SCALE_STEPS) / 86_400_000), 365);
  assert.equal(Math.round(offsetAt(-SCALE_STEPS) / 86_400_000), -365);
  assert.equal(timeAt(2, 1_700_000_000_000), null);
});

test("a position and its time belong together", () => {
  for (const position of [-1_000, -500, -37, 5, 123, 999]) assert.ok(Math.abs(positionOf(offsetAt(position)) - position) < 1e-6);
  assert.equal(positionOf(1e15), SCALE_STEPS);
});

test("steps are seconds beside now", () => {
  assert.ok(offsetAt(6) - offsetAt(5) < 1_000 && offsetAt(100) < 240_000);
});

test("a time has whole seconds, and is not on the other side of now", () => {
  const now = 1_700_000_000_500;
  for (let position = 5; position < 200; position++) {
    const [before, after] = [timeAt(-position, now), timeAt(position, now)];
    assert.ok(before !== null && before % 1_000 === 0 && before < now);
    assert.ok(after !== null && after % 1_000 === 0 && after > now);
  }
});
