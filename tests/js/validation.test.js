// Validators of the page, in the form that zod, valibot and arktype share.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Server, printed, seen, until, watched } from "./support.js";

/** @import { StandardResult, StandardSchema } from "../../src/broker/js/types.js" */

const server = new Server();
before(() => server.start());

/** @param {(value: any) => StandardResult | Promise<StandardResult>} validate @returns {StandardSchema} */
const schema = (validate) => ({ "~standard": { version: 1, vendor: "test", validate } });

const percent = schema((value) =>
  typeof value?.percent === "number" ? { value } : { issues: [{ message: "expected a number", path: [{ key: "percent" }, 0] }, { message: "another" }] },
);
const short = schema((value) => (String(value).length < 5 ? { value } : { issues: [{ message: "too long" }] }));

test("what is not valid is not shown, never sent, and in the outbox as refused", async (t) => {
  const watch = watched();
  const ada = await server.user(t, "ada", { fetch: watch.fetch, validate: { offer: percent, "notes/*": short } });
  /** @type {any} */
  const offer = ada.event("offer");
  seen(offer);
  await offer.ready;
  const sent = offer.set({ percent: "20" });
  assert.equal(offer.get(), undefined);
  await assert.rejects(sent, { name: "BrokerError", type: "invalid", message: "offer: percent.0: expected a number" });
  const [refused] = ada.outbox.get();
  assert.deepEqual([refused.state, refused.tries, refused.data, refused.error?.type], ["refused", 0, { percent: "20" }, "invalid"]);
  ada.outbox.retry(refused.uuid);
  assert.equal(ada.outbox.get()[0].state, "refused");
  ada.outbox.discard(ada.outbox.get()[0].uuid);
  await assert.rejects(ada.events("notes/").set("a", "too long"), { message: "notes/a: too long" });
  await ada.events("notes/").set("a", "ok");
  await ada.event("notes").set("is no note, and so it may be long");
  await offer.set({ percent: 20, note: "x" });
  await assert.rejects(offer.patch({ percent: null }), { type: "invalid" });
  await offer.patch({ note: "y" }); // what is sent is valid, though the patch alone is not
  await assert.rejects(offer.update((/** @type {any} */ data) => ({ ...data, percent: [] })), { type: "invalid" });
  assert.deepEqual(offer.get(), { percent: 20, note: "y" });
  await offer.remove();
  assert.ok(watch.inserts.every(([record]) => record.data !== "too long" && record.data?.percent !== "20"));
});

test("a batch with a value that is not valid is refused as a whole", async (t) => {
  const ada = await server.user(t, "ada", { validate: { "batch/*": short } });
  const batch = ada.batch(() => {
    ada.event("batch/a").set(1);
    ada.event("batch/b").set("too long");
    ada.event("batch/c").set(3);
  });
  await assert.rejects(batch, { type: "invalid", message: "batch/b: too long" });
  assert.deepEqual(ada.outbox.get().map(({ state }) => state), ["refused", "refused", "refused"]);
  assert.equal(ada.event("batch/a").get(), undefined);
  assert.deepEqual(await server.versions("batch/a"), []);
});

test("a validator that takes its time holds the queue, and one that fails refuses", async (t) => {
  /** @type {((result: StandardResult) => void)[]} */
  const open = [];
  const slow = schema(() => new Promise((resolve) => open.push(resolve)));
  const failing = schema(() => Promise.reject(new Error("no network")));
  const throwing = schema(() => {
    throw new Error("broken");
  });
  const watch = watched();
  const ada = await server.user(t, "ada", { fetch: watch.fetch, validate: { "slow/*": slow, failing, throwing } });
  const [good, bad, after] = [ada.event("slow/a").set(1), ada.event("slow/b").set(2), ada.event("after").set(3)];
  await ada.event("slow/a").ready;
  assert.equal(ada.event("slow/a").get(), 1); // it is shown meanwhile
  assert.equal(watch.inserts.length, 0);
  open[1]({ issues: [{ message: "bad" }] });
  open[0]({ value: 1 });
  await assert.rejects(bad, { type: "invalid", message: "slow/b: bad" });
  await Promise.all([good, after]);
  assert.equal(watch.inserts.length, 1);
  await assert.rejects(ada.event("failing").set(1), { type: "invalid", message: "failing: Error: no network" });
  await assert.rejects(ada.event("throwing").set(1), { type: "invalid", message: "throwing: Error: broken" });
});

test("what others have written is shown all the same; on localhost, the console says once what is wrong with it", async (t) => {
  const lines = printed(t);
  const bob = await server.user(t, "bob");
  const ada = await server.user(t, "ada", { validate: { "got/*": percent } });
  const got = ada.events("got/");
  seen(got);
  await got.ready;
  await bob.event("got/node").set({ percent: "1" });
  await until(() => got.get().has("node"));
  assert.equal(lines.length, 0);
  globalThis.location = /** @type {any} */ (new URL("http://localhost:5173/"));
  t.after(() => Reflect.deleteProperty(globalThis, "location"));
  for (const value of ["2", "3"]) await bob.event("got/page").set({ percent: value });
  await bob.event("got/other").set({ percent: "4" });
  await bob.event("got/right").set({ percent: 5 });
  await until(() => got.get().has("right"));
  assert.deepEqual(got.get().get("page"), { percent: "3" });
  assert.deepEqual(lines.map((line) => line.replace(/.*not valid: /, "")), ["got/page: percent.0: expected a number", "got/other: percent.0: expected a number"]);
});
