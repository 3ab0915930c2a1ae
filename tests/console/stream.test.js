// The stream of a screen, on a real server.

import assert from "node:assert/strict";
import { test } from "node:test";

import { openStream } from "../../src/broker/console/stream.js";
import { Server, until } from "../js/support.js";

/** @import { StreamFrame, StreamState } from "../../src/broker/console/stream.js" */
/** @import { Broker } from "../../src/broker/js/types.js" */

/** @param {import("node:test").TestContext} test @param {Broker} broker
 * @param {{query?: Record<string, string | readonly string[]>, lastEventId?: string}} [options] */
function streamOf(test, broker, options) {
  const control = new AbortController();
  /** @type {StreamFrame[]} */
  const frames = [];
  /** @type {StreamState[]} */
  const states = [];
  openStream({ broker, signal: control.signal, renew: () => {} }, { ...options, frame: (each) => frames.push(each), state: (each) => states.push(each) });
  test.after(() => control.abort());
  const records = () => frames.filter((each) => !each.event?.startsWith("$") && each.data !== undefined);
  return { control, frames, states, records, live: (/** @type {number} */ count = 1) => until(() => states.filter((each) => each === "live").length >= count, "a live stream") };
}

test("frames come as they are, with their ids and their lengths", async (test) => {
  const server = await new Server().start();
  const ada = await server.user(test, "ada");
  await ada.event("a").set({ n: "ä" });
  const stream = streamOf(test, ada);
  await stream.live();
  const [frame] = stream.records();
  assert.deepEqual([frame.event, frame.data], ["a", '{"n":"ä"}']);
  assert.equal(frame.bytes, Buffer.byteLength(`id: ${frame.id}\nevent: a\ndata: {"n":"ä"}\n\n`));
  assert.ok(Math.abs(frame.time - Date.now()) < 10_000);
  await ada.event("b").set(1);
  await until(() => stream.records().length === 2, "the frame");
});

test("after an interruption nothing is missing, and nothing comes twice", async (test) => {
  const server = await new Server().start();
  const ada = await server.user(test, "ada");
  const stream = streamOf(test, ada, { query: { frames: "record", event: ["e/*"] } });
  await stream.live();
  await ada.event("e/1").set(1);
  await until(() => stream.records().length === 1, "the frame");
  await server.stop("SIGKILL");
  await until(() => stream.states.includes("waiting"), "the interruption");
  await server.start();
  await ada.event("e/2").set(2);
  await stream.live(2);
  await until(() => stream.records().length === 2, "the second frame");
  assert.deepEqual(stream.records().map((each) => JSON.parse(each.data ?? "").event), ["e/1", "e/2"]);
  assert.equal(stream.frames.some((each) => each.event === "$reset"), false);
});

test("an id of another log is forgotten, and the stream begins anew", async (test) => {
  const server = await new Server().start();
  const ada = await server.user(test, "ada");
  await ada.event("a").set(1);
  const unknown = streamOf(test, ada, { lastEventId: "aaaaaaaa-7" });
  await unknown.live();
  assert.equal(unknown.frames[0].event, "$reset");
  const invalid = streamOf(test, ada, { lastEventId: "no id" });
  await invalid.live();
  assert.equal(invalid.records().length, 1);
});

test("a stream that the server refuses is not asked for again", async (test) => {
  const server = await new Server("--set", "events_public=no").start();
  const stream = streamOf(test, server.client(test));
  await until(() => stream.states.at(-1) === "denied", "the refusal");
  assert.deepEqual(stream.states, ["connecting", "denied"]);
});

test("the stream ends with the screen", async (test) => {
  const server = await new Server().start();
  const ada = await server.user(test, "ada");
  const stream = streamOf(test, ada);
  await stream.live();
  stream.control.abort();
  const { length } = stream.frames;
  await ada.event("a").set(1);
  const isOpen = async () => !(await (await fetch(`${server.url}/metrics`)).text()).includes("\nbroker_subscribers 0");
  while (await isOpen()); // the runner has a time limit
  assert.equal(stream.frames.length, length);
  assert.equal(stream.states.at(-1), "live");
});
