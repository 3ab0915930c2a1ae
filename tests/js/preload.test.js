// What a server that renders pages reads for them, and how a page goes on from there.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { preload } from "../../src/broker/js/preload.js";
import { Server, seen, until, watched } from "./support.js";

/** @import { Preloaded } from "../../src/broker/js/types.js" */

const server = new Server();

before(async () => {
  await server.start();
});

/** A client of a page that was rendered with this state. @param {import("node:test").TestContext} test
 * @param {Preloaded} state @param {any} [options] */
function page(test, state, options) {
  const watch = watched();
  // What a page has is plain JSON.
  return { watch, broker: server.client(test, { fetch: watch.fetch, state: JSON.parse(JSON.stringify(state)), ...options }) };
}

test("it reads the state of events and prefixes, with its user, and ends its stream", async () => {
  const token = await server.token("ada");
  const insert = (/** @type {any} */ body) => server.call("/insert", token, body);
  await insert([{ event: "read/a", data: { n: 1 } }, { event: "read/b", data: 2 }, { event: "other", data: 3 }]);
  const { uuid, id } = await insert({ event: "read/a", data: { n: 2 } });
  await insert({ event: "read/b", data: null });
  const state = await preload(server.url, ["read/*", "none"], { token });
  assert.deepEqual(state.user, { username: "ada" });
  assert.deepEqual(state.names, ["read/*", "none"]);
  assert.deepEqual(state.state.map((each) => [each.event, each.data]), [["read/a", { n: 2 }]]);
  const [first] = state.state;
  assert.deepEqual([first?.uuid, first?.id, first?.user], [uuid, id, "ada"]);
  assert.deepEqual(state.inexact, []);
  assert.equal((await preload(server.url, ["read/*"])).user, null);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  assert.match(metrics, /^broker_subscribers 0$/m);
});

test("a page shows it at once, and resumes with the same filter from its id, without a second load", async (context) => {
  const ada = await server.user(context, "ada");
  await ada.event("go/a").set(1);
  const state = await preload(server.url, ["go/*", "go"]);
  await ada.event("go/b").set(2); // between the two
  const { broker, watch } = page(context, state);
  assert.equal(broker.event("go/a").get(), 1);
  assert.deepEqual([...broker.events("go/").get()], [["a", 1]]);
  assert.equal(broker.event("go/a").state.get().status, "stale");
  assert.equal(broker.event("elsewhere").state.get().status, "loading");
  assert.equal(broker.event("go").state.get().exists, false);
  const values = seen(broker.event("go/a"));
  const all = seen(broker.events("go/"));
  const states = seen(broker.event("go").state);
  await until(() => all.at(-1)?.size === 2 && states.at(-1)?.status === "live");
  assert.deepEqual(watch.streams, [{ event: ["go/*", "go"], frames: "record", last_event_id: state.id, new: [] }]);
  assert.deepEqual(values, [1]);
  assert.deepEqual(states.map(({ status }) => status), ["stale", "live"]);
});

test("what the page needs beyond that is loaded beside it", async (context) => {
  const state = await preload(server.url, ["more"]);
  const { broker, watch } = page(context, state);
  broker.event("more").subscribe(() => {});
  await broker.event("beyond").ready;
  assert.deepEqual(watch.streams, [{ event: ["more", "beyond"], frames: "record", last_event_id: state.id, new: ["beyond"] }]);
});

test("the state of a user is for this user alone, and what is public is shown to all until theirs is there", async (context) => {
  const token = await server.token("ada");
  await server.call("/insert", token, { event: "own", data: 1 });
  const own = await preload(server.url, ["own"], { token });
  const open = await preload(server.url, ["own"]);

  const stranger = page(context, own);
  assert.equal(stranger.broker.event("own").get(), undefined);
  assert.equal(await stranger.broker.event("own").ready, 1);
  assert.equal(stranger.watch.streams[0].last_event_id, undefined);

  // The page of somebody who is logged in: the token of the session is in a storage of the browser.
  /** @type {Map<string, string>} */
  const items = new Map();
  const storage = {
    getItem: (/** @type {string} */ key) => items.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => void items.set(key, value),
    removeItem: (/** @type {string} */ key) => void items.delete(key),
  };
  await server.client(context, { storage }).logIn("ada", "correct horse");
  const same = page(context, own, { storage });
  assert.equal(same.broker.event("own").get(), 1);
  same.broker.event("own").subscribe(() => {});
  await until(() => same.broker.event("own").state.get().status === "live");
  assert.equal(same.watch.streams[0].last_event_id, own.id);

  const later = page(context, open, { storage });
  const values = seen(later.broker.event("own"));
  await until(() => later.broker.event("own").state.get().status === "live");
  assert.deepEqual(values, [1]);
  assert.equal(later.watch.streams[0].last_event_id, undefined);

  for (const each of [token, () => token]) {
    const given = page(context, own, { token: each });
    const shown = seen(given.broker.event("own"));
    await until(() => given.broker.event("own").state.get().status === "live");
    assert.deepEqual(shown, [1]);
    assert.equal(given.watch.streams[0].last_event_id, own.id);
  }
  // A page that was rendered for somebody else reads its own state from the beginning.
  const other = await server.token("bob");
  for (const each of [other, () => other]) {
    const given = page(context, own, { token: each });
    given.broker.event("own").subscribe(() => {});
    await until(() => given.broker.event("own").state.get().status === "live");
    assert.equal(given.broker.user.get()?.username, "bob");
    assert.deepEqual(given.watch.streams.map((stream) => stream.last_event_id), [undefined]);
  }
});

test("another log replaces the state in one step", async (context) => {
  const state = await preload(server.url, ["swap"]);
  const record = { uuid: "x", event: "swap", data: "old", timestamp: 0, published_at: 0, id: "other-1" };
  const { broker } = page(context, { ...state, id: "0000000000000000-1", state: [record] });
  const values = seen(broker.event("swap"));
  await until(() => broker.event("swap").state.get().status === "live");
  assert.deepEqual(values, ["old", undefined]);
});

test("a number of more digits than JavaScript has is not written again in a page either", async (context) => {
  const token = await server.token("ada");
  await fetch(`${server.url}/insert`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: '{"event":"big","data":{"n":12345678901234567890,"m":1}}',
  });
  const state = await preload(server.url, ["big"], { token });
  assert.deepEqual(state.inexact, ["big"]);
  const { broker } = page(context, state, { token });
  assert.throws(() => broker.event("big").patch({ m: 2 }), /digits/);
});

test("it is rejected with a reason", async (context) => {
  await assert.rejects(preload(server.url, ["bad\nname"]), { name: "BrokerError", status: 400 });
  await assert.rejects(preload(server.url, ["a"], { token: "old" }), { name: "BrokerError", status: 401 });
  await assert.rejects(preload("http://127.0.0.1:9", ["a"]), { name: "BrokerError", status: 0 });
  const full = await new Server("--set", "subscribers_max=1").start();
  await full.client(context).event("a").ready; // one stream is open
  await assert.rejects(preload(full.url, ["a"]), { name: "BrokerError", status: 0, message: /the state could not be read/ });
});
