// What is pending: shown by due time, changed in one step, and right whatever happens to the server and to the login.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Server, printed, seen, until, watched } from "./support.js";

const server = new Server();
before(() => server.start());
const HOUR_MS = 3_600_000;

/** @param {readonly import("../../src/broker/js/types.js").Pending[]} list */
const data = (list) => list.map((each) => each.data);

test("what is pending is shown by due time, and follows what others do", async (t) => {
  const [ada, bob] = [await server.user(t, "ada"), await server.user(t, "bob")];
  const { schedule } = ada;
  const lists = seen(schedule);
  assert.deepEqual(await schedule.ready, []);
  assert.equal(schedule.state.get().status, "live");
  const soon = Math.round(bob.now()) + HOUR_MS;
  const [later, first] = [bob.event("price").set("later", { at: soon + HOUR_MS, until: soon + 2 * HOUR_MS }), bob.event("price").set("first", { at: soon })];
  const { uuid } = await later;
  await until(() => schedule.get().length === 2);
  assert.deepEqual(data(schedule.get()), ["first", "later"]);
  const [, item] = schedule.get();
  assert.deepEqual({ ...item, at: 0, until: 0 }, { uuid, event: "price", data: "later", at: 0, until: 0, user: "bob" });
  assert.ok(Math.abs(item.at - soon - HOUR_MS) < 1 && Math.abs((item.until ?? 0) - soon - 2 * HOUR_MS) < 1);
  await first;
  await later.cancel();
  await until(() => schedule.get().length === 1);
  await schedule.cancel(first.uuid);
  assert.deepEqual(schedule.get(), []);
  await until(() => lists.length > 3);
  bob.event("price").set("now", { at: bob.now() + 2_500 });
  await until(() => schedule.get().length === 1);
  await until(() => schedule.get().length === 0); // its time has come
});

test("a write for later is in the schedule at once, in order, and stays there until it is read", async (t) => {
  const watch = watched();
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  const { schedule } = ada;
  const lists = seen(schedule);
  await schedule.ready;
  const at = Math.round(ada.now()) + HOUR_MS;
  const sent = ada.event("own").set(2, { at: at + 1 });
  assert.deepEqual(data(schedule.get()), [2]);
  assert.equal(schedule.state.get().pending, 1);
  assert.equal(ada.event("own").get(), undefined);
  await Promise.all([sent, ada.event("own").set(1, { at })]);
  assert.equal(schedule.state.get().pending, 0);
  assert.deepEqual(data(schedule.get()), [1, 2]);
  await until(() => lists.length > 4);
  assert.deepEqual(data(schedule.get()), [1, 2]);
  const begun = lists.findIndex((list) => list.length === 2);
  assert.ok(lists.slice(begun).every((list) => list.length === 2), "nothing vanishes in between");
  const bob = await server.user(t, "bob");
  for (const { uuid } of schedule.get()) await bob.schedule.cancel(uuid);
  await until(() => schedule.get().length === 0); // what this client has written is not kept against the server's list
});

test("a page that shows the schedule alone has one stream, without any event, and reads no event", async (t) => {
  const watch = watched();
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  await ada.schedule.ready;
  assert.deepEqual(watch.streams.map(({ event }) => event), [["$pending"]]);
  await ada.event("beside").set(1);
  const value = ada.event("beside");
  seen(value);
  await until(() => value.get() === 1 && value.state.get().status === "live");
  assert.deepEqual(watch.streams.at(-1).event, ["$pending", "beside"]);
  assert.deepEqual(watch.streams.at(-1).new, ["beside"]);
  assert.equal(watch.most, 1);
});

test("a prefix that has all events does not stand for the schedule", async (t) => {
  const watch = watched();
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  await ada.events("").ready;
  assert.deepEqual(watch.streams.at(-1).event, ["*"]);
  await ada.schedule.ready;
  assert.deepEqual(watch.streams.at(-1).event, ["*", "$pending"]);
});

test("a move is one step: nobody finds both of them, or neither", async (t) => {
  const [ada, bob] = [await server.user(t, "ada"), await server.user(t, "bob")];
  const [mine, theirs] = [seen(ada.schedule), seen(bob.schedule)];
  await Promise.all([ada.schedule.ready, bob.schedule.ready]);
  const at = Math.round(ada.now()) + HOUR_MS;
  const { uuid } = await bob.event("moved").set("x", { at, until: at + 9 * HOUR_MS });
  await until(() => ada.schedule.get().length === 1 && bob.schedule.get().length === 1);
  const begun = [mine.length, theirs.length];
  const moved = ada.schedule.move(uuid, new Date(at + 2 * HOUR_MS));
  const [shown] = ada.schedule.get();
  assert.equal(shown.at, at + 2 * HOUR_MS);
  const record = await moved;
  assert.notEqual(record.uuid, uuid);
  assert.equal(record.until, (at + 9 * HOUR_MS) / 1_000);
  const again = ada.schedule.move(record.uuid, at + 3 * HOUR_MS); // by the record that the list may not have yet
  await again;
  await until(() => theirs.at(-1)?.[0].at === at + 3 * HOUR_MS);
  for (const [index, lists] of [mine, theirs].entries())
    assert.ok(lists.slice(begun[index]).every((list) => list.length === 1), JSON.stringify(lists));
  const log = await server.call("/collections/moved", await server.token("reader"));
  assert.deepEqual(log.map((/** @type {any} */ each) => each.cancelled), [true, true, false]);
  assert.throws(() => ada.schedule.move(uuid, at), /nothing is pending/);
  await ada.schedule.cancel((await again).uuid);
});

test("a move whose response is lost is not done twice, and a refused one leaves what it was to replace", async (t) => {
  printed(t);
  let lost = 0;
  const watch = watched();
  const ada = await server.user(t, "ada", {
    fetch: async (...parts) => {
      const response = await watch.fetch(...parts);
      if (String(parts[0]).endsWith("/insert") && lost++ === 1) throw new TypeError("the connection was reset");
      return response;
    },
  });
  seen(ada.schedule);
  await ada.schedule.ready;
  const at = Math.round(ada.now()) + HOUR_MS;
  const { uuid } = await ada.event("lost").set(1, { at });
  const moved = await ada.schedule.move(uuid, at + 1_000);
  assert.equal(watch.inserts.length, 3);
  assert.equal(ada.schedule.get().length, 1);
  const bad = ada.schedule.move(moved.uuid, "9999-12-31T23:59:59Z");
  await bad; // there is no limit before the year 10,000
  const last = await bad;
  await assert.rejects(ada.schedule.move(last.uuid, 9e18), { status: 400 });
  assert.deepEqual(ada.schedule.get().map((each) => each.uuid), [last.uuid]);
  assert.equal(ada.outbox.get()[0].state, "refused");
  await ada.schedule.cancel(last.uuid);
});

test("what waits for a server is in the schedule, can be moved and withdrawn, and is right after a restart", async (t) => {
  printed(t);
  const own = await new Server().start();
  const ada = await own.user(t, "ada");
  const { schedule } = ada;
  seen(schedule);
  await schedule.ready;
  const at = Math.round(ada.now()) + HOUR_MS;
  const kept = await ada.event("e").set("kept", { at });
  await own.stop("SIGKILL");
  await until(() => schedule.state.get().status === "stale");
  const [, second] = [ada.event("e").set("a", { at: at + 1 }), ada.event("e").set("b", { at: at + 2 })];
  const moved = schedule.move(kept.uuid, at + 3);
  assert.deepEqual(data(schedule.get()), ["a", "b", "kept"]);
  await second.cancel();
  await assert.rejects(second);
  assert.deepEqual(data(schedule.get()), ["a", "kept"]);
  await own.start();
  await moved;
  await until(() => schedule.state.get().status === "live");
  assert.deepEqual(data(schedule.get()), ["a", "kept"]);
  const pending = await own.call("/pending", await own.token("reader"));
  assert.deepEqual(pending.map((/** @type {any} */ each) => each.data), ["a", "kept"]);
});

test("without a login the schedule is denied, asks nobody, and is there after the login", async (t) => {
  let asked = 0;
  const watch = watched((url) => void (url.includes("/pending") && asked++));
  const ada = server.client(t, { fetch: watch.fetch });
  const states = seen(ada.schedule.state);
  await assert.rejects(ada.schedule.ready, { status: 401 });
  assert.equal(states.at(-1)?.status, "denied");
  assert.equal(states.at(-1)?.error?.status, 401);
  assert.equal(asked, 0); // the client knows that it has no token
  assert.deepEqual(watch.streams, []);
  await ada.logIn("ada", "correct horse");
  await until(() => ada.schedule.state.get().status === "live");
  await ada.event("mine").set(1, { at: Math.round(ada.now()) + HOUR_MS });
  assert.equal(ada.schedule.get().length, 1);
  const { uuid } = ada.schedule.get()[0];
  await ada.logOut();
  assert.deepEqual(ada.schedule.get(), []);
  await until(() => ada.schedule.state.get().status === "denied");
  await ada.logIn("ada", "correct horse");
  await until(() => ada.schedule.get().length === 1);
  await ada.schedule.cancel(uuid);
});

test("a long list is read in pages", async (t) => {
  const own = await new Server().start();
  const token = await own.token("ada");
  const at = Date.now() / 1_000 + 3_600;
  for (const part of [0, 1]) {
    const records = Array.from({ length: 700 }, (_, n) => ({ event: "long", data: 700 * part + n, timestamp: at + 700 * part + n }));
    await own.call("/insert", token, records);
  }
  const ada = await own.user(t, "ada");
  assert.deepEqual(data(await ada.schedule.ready), Array.from({ length: 1_400 }, (_, n) => n));
});

test("nobody asks for what is pending while nobody watches it", async (t) => {
  let asked = 0;
  const watch = watched((url) => void (url.includes("/pending") && asked++));
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  const value = ada.event("another");
  seen(value);
  await value.ready;
  await ada.event("unwatched").set(1, { at: Math.round(ada.now()) + HOUR_MS });
  assert.equal(asked, 0);
  assert.deepEqual(watch.streams.map(({ event }) => event), [["another"]]);
  let made = 0;
  const { get } = ada.schedule;
  ada.schedule.get = () => (made++, get());
  for (let n = 0; n < 100; n++) ada.event("unwatched").set(n, { at: Math.round(ada.now()) + HOUR_MS }).cancel();
  assert.equal(made, 0);
  const end = ada.schedule.subscribe(() => {});
  await until(() => ada.schedule.get().length === 1);
  end();
  const before = asked;
  await ada.schedule.cancel(ada.schedule.get()[0].uuid);
  await value.set(1);
  await until(() => value.state.get().pending === 0);
  assert.equal(asked, before);
});

test("T34: a write whose time passes while there is no server is published late, or refused, as the page has said", async (t) => {
  printed(t);
  const own = await new Server().start();
  const [ada, bob] = [await own.user(t, "ada"), await own.user(t, "bob")];
  await Promise.all(["early/a", "early/b"].map((name) => ada.event(name).set("first")));
  await own.stop("SIGKILL");
  // A server waits five seconds before it calls a write late; here, they have almost passed.
  const at = ada.now() - 4_700;
  const refused = ada.event("early/a").set("refused", { at, ifLate: "refuse" });
  const published = ada.event("early/b").set("published", { at });
  assert.notEqual(ada.event("early/b").get(), "published");
  assert.deepEqual(data(ada.schedule.get()), ["refused", "published"]);
  await until(() => ada.now() > at + 5_100);
  await own.start();
  await assert.rejects(refused, { status: 409, type: "late" });
  await published;
  const values = bob.events("early/");
  await values.ready;
  assert.deepEqual([...values.get()].sort(), [["a", "first"], ["b", "published"]]);
  assert.deepEqual(data(ada.schedule.get()), []);
  assert.deepEqual(ada.outbox.get().map((each) => each.data), ["refused"]);
});

test("T33: with the clock of the device an hour off, what is pending is due when the server says so", async (t) => {
  const ada = await server.user(t, "ada");
  await ada.event("clock").ready;
  const device = Date.now() + HOUR_MS;
  t.mock.method(Date, "now", () => device); // an hour fast, and standing still
  seen(ada.schedule);
  await ada.schedule.ready;
  const at = Math.round(ada.now()) + 1_500;
  assert.ok(at < device - HOUR_MS / 2);
  await ada.event("clock").set("due", { at });
  assert.deepEqual(ada.schedule.get().map((each) => each.at), [at]);
  await until(() => ada.schedule.get().length === 0 && ada.event("clock").get() === "due");
  assert.ok(ada.now() >= at);
});
