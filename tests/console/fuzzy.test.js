// The search among commands.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fuzzy } from "../../src/broker/console/fuzzy.js";

/** @param {string} text @param {string[]} names */
const best = (text, ...names) => names.filter((each) => fuzzy(text, each)).sort((a, b) => (fuzzy(text, b)?.score ?? 0) - (fuzzy(text, a)?.score ?? 0))[0];

test("letters are found in their order", () => {
  assert.deepEqual(fuzzy("gs", "go schedule")?.at, [0, 3]);
  assert.deepEqual(fuzzy("sch", "Schedule")?.at, [0, 1, 2]);
  assert.equal(fuzzy("hcs", "Schedule"), undefined);
  assert.deepEqual(fuzzy("opy", "copy of")?.at, [1, 2, 3]);
  assert.deepEqual(fuzzy("gosch", "go schedule")?.at, [0, 1, 3, 4, 5]);
  // Nobody who types the name of an event means a command that has its letters somewhere.
  assert.equal(fuzzy("tea", "Theme: auto"), undefined);
});

test("the best is what has the text in one piece, at the beginning of a word", () => {
  assert.equal(best("out", "Layouts", "Sign out (ada)", "Open your tests"), "Sign out (ada)");
  assert.equal(best("td", "Edit", "Theme: dark", "Started"), "Theme: dark");
});

test("what is no letter is found, too", () => {
  assert.ok(fuzzy("(", "Sign out (ada)"));
  assert.ok(fuzzy("ẞ", "Straße"));
  assert.ok(fuzzy("stan", "İstanbul"));
});
