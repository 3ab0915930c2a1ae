// Many events of one prefix: what is watched costs what has changed, and not what there is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Server, until } from "./support.js";

test("whoever watches the changes of a collection causes no copy of it", async (t) => {
  const server = await new Server().start();
  const ada = await server.user(t, "ada");
  const orders = /** @type {any} */ (ada.events("orders/"));
  let copies = 0;
  const { get } = orders;
  orders.get = () => (copies++, get());
  /** @type {Set<string>} */
  const changed = new Set();
  orders.changes((/** @type {Set<string>} */ keys) => keys.forEach((key) => changed.add(key)));
  await orders.ready;
  const before = copies;
  for (let number = 0; number < 20; number++) await ada.event(`orders/${number}`).set(number);
  await until(() => changed.size === 20 && orders.state.get().pending === 0);
  assert.equal(copies, before);
});
