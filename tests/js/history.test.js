// The past of an event: its log, its value at another time, and what this client can take back.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Server, printed, seen, until, watched } from "./support.js";

/** @import { Broker, Event } from "../../src/broker/js/types.js" */

const server = new Server();
before(() => server.start());

/** @param {AsyncIterable<any>} iterable @param {number} [most] */
async function some(iterable, most = Infinity) {
  const all = [];
  for await (const each of iterable) if (all.push(each) >= most) break;
  return all;
}

/** An event that is watched, and known. @param {Broker} broker @param {string} name @returns {Promise<Event<any>>} */
async function live(broker, name) {
  const event = broker.event(name);
  event.subscribe(() => {});
  await event.ready;
  return event;
}

test("the log is read in pages, the newest first, and only as far as the loop goes on", async (t) => {
  /** @type {string[]} */
  const asked = [];
  const ada = await server.user(t, "ada", { fetch: (...parts) => (asked.push(String(parts[0])), fetch(...parts)) });
  const value = ada.event("a/log of ü?#%");
  const sent = Array.from({ length: 7 }, (_, n) => value.set(n));
  await Promise.all(sent);
  const at = ada.now() + 60_000;
  await value.set("later", { at });
  asked.length = 0;
  const log = await some(value.log({ limit: 3 }));
  assert.deepEqual(log.map(({ data }) => data), ["later", 6, 5, 4, 3, 2, 1, 0]);
  assert.deepEqual([log[0].published, log[0].cancelled, log[1].published, log[1].user], [false, false, true, "ada"]);
  assert.equal(asked.length, 3);
  assert.deepEqual((await some(value.log({ limit: 3 }), 2)).map(({ data }) => data), ["later", 6]);
  assert.equal(asked.length, 4);
  const older = await some(value.log({ before: sent[2].uuid }));
  assert.deepEqual(older.map(({ data }) => data), [1, 0]);
  await assert.rejects(some(server.client(t).event("x").log()), { status: 401 });
});

test("T43: a thousand equal values are a thousand versions in the log, and one value for whoever watches", async (t) => {
  const [ada, bob] = [await server.user(t, "ada"), await server.user(t, "bob")];
  const value = await live(ada, "equal");
  const values = seen(bob.event("equal"));
  await bob.event("equal").ready;
  const sent = Array.from({ length: 1_000 }, () => value.set({ same: true }));
  await Promise.all(sent);
  await until(() => values.length > 1);
  const log = await some(value.log({ limit: 300 }));
  assert.deepEqual(log.map(({ uuid }) => uuid), sent.map(({ uuid }) => uuid).reverse());
  assert.ok(values.length < 500, `${values.length} notifications`);
  assert.deepEqual(values.at(-1), { same: true });
});

test("a value is there as it was, and as it will be", async (t) => {
  const ada = await server.user(t, "ada");
  const value = ada.event("times/a&b");
  const began = ada.now() - 10;
  await new Promise((resolve) => setTimeout(resolve, 20)); // the past is told apart by the server's clock
  const { published_at } = await value.set({ n: 1 });
  await value.set({ n: 2 });
  const due = Math.round(ada.now()) + 60_000;
  await value.set({ n: 3 }, { at: due });
  assert.equal(await value.at(began), undefined);
  assert.deepEqual(await value.at(new Date(1_000 * Number(published_at) + 1)), (await value.at(1_000 * Number(published_at) + 1)));
  assert.deepEqual(await value.at(1_000 * Number(published_at) + 0.001), { n: 1 });
  assert.deepEqual(await value.at(ada.now() + 1_000), { n: 2 });
  assert.deepEqual(await value.at(new Date(due + 1).toISOString()), { n: 3 });
  await assert.rejects(value.at("tomorrow"), { status: 400 });
});

test("undo writes the former value, and redo the later one; a new write forgets what was taken back", async (t) => {
  const ada = await server.user(t, "ada");
  const value = await live(ada, "steps");
  assert.equal(value.undo(), undefined);
  value.set(1);
  value.patch({ a: 1 });
  value.update((data) => ({ ...data, b: 2 }));
  assert.deepEqual(value.get(), { a: 1, b: 2 });
  value.undo();
  assert.deepEqual(value.get(), { a: 1 });
  value.undo();
  assert.deepEqual(value.get(), 1);
  value.undo();
  assert.equal(value.get(), undefined);
  assert.equal(value.undo(), undefined);
  value.redo();
  value.redo();
  assert.deepEqual(value.get(), { a: 1 });
  await value.redo();
  assert.deepEqual(value.get(), { a: 1, b: 2 });
  assert.equal(value.redo(), undefined);
  await value.undo();
  await value.set("new");
  assert.equal(value.redo(), undefined);
  await value.undo();
  assert.deepEqual(value.get(), { a: 1 });
  await value.undo();
  assert.deepEqual(value.get(), 1);
  await value.remove();
  await value.undo();
  assert.deepEqual(value.get(), 1);
  assert.deepEqual(await server.versions("steps"), [
    1, { a: 1 }, { a: 1, b: 2 }, { a: 1 }, 1, null, 1, { a: 1 }, { a: 1, b: 2 }, { a: 1 }, "new", { a: 1 }, 1, null, 1,
  ]);
  assert.deepEqual(ada.outbox.get(), []);
});

test("T46: a thousand times undo and redo add a thousand records, and no more", async (t) => {
  const ada = await server.user(t, "ada");
  const value = await live(ada, "loop");
  await value.set("a");
  await value.set("b");
  let steps = 0;
  for (let n = 0; n < 500; n++) for (const sent of [value.undo(), value.redo()]) if (sent) steps++;
  assert.equal(steps, 1_000);
  await until(() => ada.outbox.get().length === 0 && value.state.get().pending === 0);
  assert.equal((await server.versions("loop")).length, 1_002);
  assert.equal(value.get(), "b");
});

test("an undo after somebody else has written is refused, visibly and once", async (t) => {
  const [ada, bob] = [await server.user(t, "ada"), await server.user(t, "bob")];
  const value = await live(ada, "taken");
  await value.set("a");
  await value.set("b");
  await bob.event("taken").set("bob's");
  await assert.rejects(value.undo() ?? Promise.resolve(), { status: 412 });
  await until(() => value.get() === "bob's");
  assert.deepEqual(ada.outbox.get().map(({ state, data, error }) => [state, data, error?.status]), [["refused", "a", 412]]);
  assert.equal(value.undo(), undefined);
  assert.equal(value.redo(), undefined);
  assert.deepEqual(await server.versions("taken"), ["a", "b", "bob's"]);
  await value.set("c");
  await value.undo();
  assert.equal(value.get(), "bob's");
  assert.equal(value.undo(), undefined); // there is no way back over what another user has written
  ada.outbox.retry(ada.outbox.get()[0].uuid); // and whoever insists can have it
  await until(() => ada.outbox.get().length === 0);
  assert.equal((await server.versions("taken")).at(-1), "a");
});

test("what somebody else has written between two writes of mine is not taken back with them", async (t) => {
  const [ada, bob] = [await server.user(t, "ada"), await server.user(t, "bob")];
  const value = await live(ada, "between");
  await value.set("a");
  await value.set("b");
  await bob.event("between").set("bob's");
  await until(() => value.get() === "bob's");
  await value.set("c");
  await value.undo();
  assert.equal(value.get(), "bob's");
  assert.equal(value.undo(), undefined);
  await value.redo();
  assert.equal(value.get(), "c");
});

test("a change that was applied to a newer version is taken back from there", async (t) => {
  /** @type {Promise<any> | undefined} */
  let gate;
  const watch = watched(async (url) => (url.endsWith("/insert") && (await gate), undefined));
  const [ada, bob] = [await server.user(t, "ada", { fetch: watch.fetch }), await server.user(t, "bob")];
  const value = await live(ada, "rebased");
  await value.set({ a: 1, b: 1 });
  const theirs = await live(bob, "rebased");
  gate = theirs.patch({ b: 2 }); // is stored before what follows
  const patched = value.patch({ a: 2 });
  const again = value.patch({ a: 3 });
  const undone = value.undo();
  assert.deepEqual(value.get(), { a: 2, b: 1 });
  await Promise.all([patched, again, undone]);
  await until(() => value.get().b === 2);
  assert.deepEqual(value.get(), { a: 2, b: 2 });
  await value.undo();
  assert.equal(value.get().b, 2, "what Bob has changed stays");
  await value.redo();
  await value.redo();
  assert.deepEqual(value.get(), { a: 3, b: 2 });
});

test("a whole value that was written over a change which somebody else overtook is taken back to what they have made of it", async (t) => {
  /** @type {Promise<any> | undefined} */
  let gate;
  const watch = watched(async (url) => (url.endsWith("/insert") && (await gate), undefined));
  const [ada, bob] = [await server.user(t, "ada", { fetch: watch.fetch }), await server.user(t, "bob")];
  const value = await live(ada, "overtaken");
  await value.set({ a: 1, b: 1 });
  const theirs = await live(bob, "overtaken");
  gate = theirs.patch({ b: 2 });
  value.patch({ a: 2 });
  await value.set("whole");
  await value.undo();
  assert.deepEqual(value.get(), { a: 2, b: 2 });
  await value.undo();
  assert.deepEqual(value.get(), { a: 1, b: 2 });
});

test("a refused write is nothing that can be taken back, and those around it can be", async (t) => {
  const ada = await server.user(t, "ada");
  const value = await live(ada, "refused");
  const all = [value.set(1), value.set(2, { ifLatest: "none" }), value.set(3)];
  await Promise.allSettled(all);
  await value.undo();
  assert.equal(value.get(), 1);
  await value.undo();
  assert.equal(value.get(), undefined);
  const bad = value.set(4, { until: ada.now() + 1 });
  await assert.rejects(bad, { status: 400 });
  assert.equal(value.undo(), undefined);
  assert.deepEqual(await server.versions("refused"), [1, 3, 1, null]);
});

test("a write that is pending is cancelled, and given again", async (t) => {
  printed(t);
  const own = await new Server().start();
  const ada = await own.user(t, "ada");
  const value = await live(ada, "pending");
  seen(ada.schedule);
  await ada.schedule.ready;
  await value.set("now");
  const later = value.set("later", { at: ada.now() + 60_000 });
  await later;
  assert.equal(ada.schedule.get().length, 1);
  await value.undo();
  assert.equal(ada.schedule.get().length, 0);
  assert.equal(value.get(), "now");
  await value.redo();
  assert.equal(ada.schedule.get().length, 1);
  await value.redo();
  const [{ uuid }] = ada.schedule.get();
  await ada.schedule.move(uuid, ada.now() + 90_000);
  await value.undo(); // whatever its time is now
  assert.equal(ada.schedule.get().length, 0);
  await value.undo();
  assert.equal(value.get(), undefined);
  await value.redo();
  assert.equal(value.get(), "now");
  await own.stop("SIGKILL");
  value.set("never", { at: ada.now() + 60_000 });
  assert.equal(ada.schedule.get().length, 1);
  const undone = value.undo();
  assert.equal(undone?.event, "pending");
  await undone;
  assert.equal(ada.schedule.get().length, 0);
  value.redo();
  assert.equal(ada.schedule.get().length, 1);
  await own.start();
  await until(() => ada.outbox.get().length === 0);
  const pending = await own.call("/pending", await own.token("reader"));
  assert.deepEqual(pending.map((/** @type {any} */ each) => each.data), ["never"]);
});

test("what is not known cannot come back, and another user takes nothing back", async (t) => {
  const ada = await server.user(t, "ada");
  await server.call("/insert", await server.token("bob"), { event: "unknown", data: "bob's" });
  await ada.event("unknown").set("a");
  assert.equal(ada.event("unknown").undo(), undefined);
  const value = await live(ada, "known");
  await value.set("b");
  await ada.logOut();
  assert.equal(value.undo(), undefined);
  await ada.signUp("carol", "correct horse").catch(() => ada.logIn("carol", "correct horse"));
  assert.equal(value.undo(), undefined);
  assert.deepEqual(await server.versions("unknown"), ["bob's", "a"]);
});

test("the past is bounded, and a page with many writes keeps working", async (t) => {
  const watch = watched();
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  const value = await live(ada, "bounded");
  for (let n = 0; n < 150; n++) value.set(n);
  let back = 0;
  while (value.undo()) back++;
  assert.equal(back, 100);
  assert.equal(value.get(), 49);
  await until(() => ada.outbox.get().length === 0);
});
