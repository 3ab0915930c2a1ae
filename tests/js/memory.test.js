// What stays in memory of a long life, and what keeps a process alive.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { createBroker } from "../../src/broker/js/broker.js";
import { played, until } from "./support.js";

/** `FRAMES=1000000 node --test memory.test.js` takes some seconds more. */
const FRAMES = Number(process.env.FRAMES ?? 100_000);
const CLIENT = new URL("../../src/broker/js/broker.js", import.meta.url).href;

setFlagsFromString("--expose_gc");
const collect = runInNewContext("gc");

function heap() {
  collect();
  return process.memoryUsage().heapUsed;
}

test(`T44: ${FRAMES} frames leave nothing behind but the newest values, and reconnecting does not either`, async (t) => {
  const play = played();
  const broker = createBroker("http://127.0.0.1:1", { storage: "memory", fetch: play.fetch });
  t.after(() => broker.close());
  let notified = 0;
  broker.events("a/").changes((keys) => void (notified += keys.size));
  let number = 0;
  const chunk = 1_000;
  for (let streams = 1, first = 0; number < FRAMES; streams++) {
    const stream = await play.stream(streams);
    stream.send("retry: 0\n");
    if (streams === 1) stream.ready("x-0");
    else assert.equal(stream.request.last_event_id, `x-${number}`);
    stream.ready(`x-${number}`);
    for (let n = 0; n < chunk; n++) stream.record(`x-${++number}`, `a/${number % 500}`, { number });
    await until(() => broker.position === `x-${number}`);
    if (number === Math.ceil(FRAMES / 10)) first = heap();
    stream.end();
    play.streams[streams - 1] = /** @type {any} */ (undefined); // the test itself keeps nothing, either
    if (number >= FRAMES) assert.ok(heap() - first < 3e6, `${heap() - first} bytes more`);
  }
  await until(() => broker.events("a/").get().get("499"));
  assert.ok(notified >= 500);
});

test("T44: what is aborted with a stream is its own signal, so that listeners do not pile up", async (t) => {
  const warnings = /** @type {string[]} */ ([]);
  const warn = (/** @type {Error} */ warning) => void warnings.push(warning.name);
  process.on("warning", warn);
  t.after(() => process.off("warning", warn));
  const play = played();
  const broker = createBroker("http://127.0.0.1:1", { storage: "memory", fetch: play.fetch });
  t.after(() => broker.close());
  broker.event("a").subscribe(() => {});
  const signals = new Set();
  for (let n = 1; n <= 50; n++) {
    const stream = await play.stream(n);
    signals.add(stream.signal);
    stream.send("retry: 0\n");
    stream.end();
  }
  assert.equal(signals.size, 50);
  await until(() => [...signals].filter((signal) => signal.aborted).length >= 49); // and so each was let go
  assert.deepEqual(warnings.filter((name) => name.includes("MaxListeners")), []);
});

test("T47: a process without a page ends when its client is closed, and a worker has a client, too", async () => {
  const script = `
    import { createBroker } from ${JSON.stringify(CLIENT)};
    const broker = createBroker("http://127.0.0.1:9");
    broker.event("a").subscribe(() => {});
    broker.event("a").set(1);
    setTimeout(broker.event("b").subscribe(() => {}), 100);
    setTimeout(() => broker.close(), 300);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { timeout: 10_000 });
  const [status] = await once(child, "exit");
  assert.equal(status, 0); // null: it had to be ended
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`));
  const [left] = await once(worker, "exit");
  assert.equal(left, 0);
});
