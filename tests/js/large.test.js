// Many events of one prefix: what is watched costs what has changed, and not what there is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Server, seen, until } from "./support.js";

test("whoever watches the changes of a collection causes no copy of it", async (t) => {
  const server = await new Server().start();
  const ada = await server.user(t, "ada");
  const rows = /** @type {any} */ (ada.events("rows/"));
  let copies = 0;
  const { get } = rows;
  rows.get = () => (copies++, get());
  /** @type {Set<string>} */
  const changed = new Set();
  rows.changes((/** @type {Set<string>} */ keys) => keys.forEach((key) => changed.add(key)));
  await rows.ready;
  const before = copies;
  for (let number = 0; number < 20; number++) await ada.event(`rows/${number}`).set(number);
  await until(() => changed.size === 20 && rows.state.get().pending === 0);
  assert.equal(copies, before);
});

test("a page that writes much in one turn has its writes counted once", async (t) => {
  const server = await new Server().start();
  const ada = await server.user(t, "ada");
  const rows = /** @type {any} */ (ada.events("rows/"));
  const states = seen(rows.state);
  await rows.ready;
  const { outbox } = rows.values;
  let counts = 0;
  const { pending } = outbox;
  outbox.pending = (/** @type {string} */ prefix) => (counts++, pending.call(outbox, prefix));
  for (let number = 0; number < 1_000; number++) rows.set(`${number}`, number);
  assert.equal(rows.get().size, 1_000);
  assert.equal(counts, 0);
  await until(() => states.at(-1)?.pending === 0 && states.some(({ pending }) => pending === 1_000));
  assert.equal(states.filter(({ pending }) => pending === 1_000).length, 1);
});
