// Two copies of the package in one app: a page that imports /broker.js, and a library that brings the package along.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { createBroker } from "../../src/broker/js/broker.js";
import { Server, until } from "./support.js";

/** @import { Options, StorageLike } from "../../src/broker/js/types.js" */

/** A copy of the package under another path. @param {import("node:test").TestContext} test */
async function copy(test) {
  const folder = mkdtempSync(join(tmpdir(), "broker-copy-"));
  test.after(() => rmSync(folder, { recursive: true }));
  cpSync(new URL("../../src/broker/js", import.meta.url), folder, { recursive: true });
  return /** @type {typeof import("../../src/broker/js/broker.js")} */ (await import(pathToFileURL(join(folder, "broker.js")).href));
}

/** @returns {StorageLike} */
function storage() {
  /** @type {Map<string, string>} */
  const all = new Map();
  return {
    getItem: (key) => all.get(key) ?? null,
    setItem: (key, value) => void all.set(key, value),
    removeItem: (key) => void all.delete(key),
  };
}

test("T40: two copies of the package show the same values, and each sees what the other writes", async (test) => {
  const server = await new Server().start();
  const other = await copy(test);
  assert.notEqual(other.createBroker, createBroker);
  const kept = storage(); // as the pages of one origin share it
  const one = createBroker(server.url, { storage: kept });
  await one.signUp("ada", "correct horse");
  const two = other.createBroker(server.url, { storage: kept });
  for (const each of [one, two]) test.after(() => each.close());
  assert.deepEqual(two.user.get(), { username: "ada" });

  const first = one.event("sale");
  const second = two.event("sale");
  await Promise.all([first.ready, second.ready]);
  await first.set({ percent: 1 });
  await until(() => second.get());
  const more = (/** @type {any} */ data) => ({ percent: data.percent + 1 });
  await Promise.all([first.update(more), second.update(more)]);
  for (const each of [first, second]) await until(() => /** @type {any} */ (each.get()).percent === 3);
  assert.deepEqual(await server.versions("sale"), [1, 2, 3].map((percent) => ({ percent })));
});
