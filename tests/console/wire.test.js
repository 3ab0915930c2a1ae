// Frames as text, and what the inspector says of them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { wireBrief, wireFormatted, wireMatches, wireMeaning, wireName, wireText } from "../../src/broker/console/wire.js";

/** @param {object} parts @returns {import("../../src/broker/console/wire.js").WireEntry} */
const entry = (parts) => ({ number: 1, time: 0, kind: "frame", ...parts });

test("a frame is the lines that have come", () => {
  assert.equal(wireText(entry({ id: "a-1", event: "sale", data: "1.0" })), "id: a-1\nevent: sale\ndata: 1.0\n\n");
  assert.equal(wireText(entry({ id: "a-1" })), "id: a-1\n\n");
  assert.equal(wireText(entry({ kind: "line", data: "retry: 5" })), "retry: 5\n");
});

test("a record frame has the name of its record", () => {
  const data = JSON.stringify({ id: "a-1", uuid: "u", event: 'a"b\\c<i>', data: { event: "no" } });
  assert.equal(wireName(entry({ id: "a-1", data })), 'a"b\\c<i>');
  assert.equal(wireName(entry({ id: "a-1", data: '{"event":"no"}' })), "");
});

test("data in many lines keeps the text of numbers", () => {
  assert.equal(wireFormatted(entry({ data: '{"a":1.0,"b":[12345678901234567890]}' })), '{\n  "a": 1.0,\n  "b": [\n    12345678901234567890\n  ]\n}');
});

test("long data is cut off where it is shown, and not where it is copied", () => {
  const data = `"${"x".repeat(1 << 20)}"`;
  assert.equal(wireBrief(entry({ data })).length, 301);
  assert.ok(wireFormatted(entry({ data })).length < 101_000);
  assert.ok(wireText(entry({ data })).includes(data));
});

test("the filter looks into names and data", () => {
  const one = entry({ event: "Orders/7", data: '{"item":"Tea"}' });
  for (const text of ["", "orders", "tea", "item"]) assert.ok(wireMatches(one, text), text);
  assert.ok(!wireMatches(one, "coffee"));
  assert.ok(wireMatches(entry({ data: '{"id":"a-1","uuid":"u","event":"caf\\u00e9","data":1}' }), "café"));
});

test("each event of Broker's own is explained", () => {
  for (const name of ["ready", "skipped", "reset", "login", "passed", "pending", "heartbeat"])
    assert.notEqual(wireMeaning(entry({ event: `$${name}`, data: "{}" })), "", name);
  assert.equal(wireMeaning(entry({ event: "sale", data: "1" })), "");
});
