// Interrupted streams: what a client asks for next, and what it shows meanwhile.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { test } from "node:test";
import { Server, freePort, played, printed, problem, seen, settled, tick, until, watched } from "./support.js";
import { createBroker } from "../../src/broker/js/broker.js";

/** @param {import("node:test").TestContext} t @param {any} play @param {object} [options] */
function client(t, play, options) {
  const broker = createBroker("http://127.0.0.1:1", { storage: "memory", fetch: play.fetch, ...options });
  t.after(() => broker.close());
  return broker;
}

test("T5: what a superseded stream still brings is ignored", async (t) => {
  const play = played();
  const broker = client(t, {
    fetch: (/** @type {string} */ url, /** @type {any} */ options) => play.fetch(url, { ...options, signal: new AbortController().signal }), // it cannot be aborted
  });
  const values = seen(broker.event("a"));
  const first = await play.stream(1);
  first.record("x-1", "a", 1);
  first.ready("x-1");
  await until(() => broker.event("a").get() === 1);
  seen(broker.event("b"));
  await new Promise((resolve) => setTimeout(resolve, 100)); // the time in which the filter is widened
  first.record("x-2", "a", "late");
  const second = await play.stream(2);
  assert.equal(second.request.last_event_id, "x-1");
  first.record("x-3", "a", "later");
  second.record("x-2", "a", 2);
  second.ready("x-2");
  await until(() => broker.event("a").get() === 2 && broker.event("b").state.get().status === "live");
  assert.deepEqual(values, [undefined, 1, 2]);
});

test("T5: what comes in one piece with that upon which the page logs out is not shown to the next user", async (t) => {
  const time = Date.now() / 1_000;
  const play = played((path) => {
    if (path === "/login") return Response.json({ jwt: "one", username: "ada", time, expires_at: time + 36_000 });
    if (path === "/logout") return Response.json({});
  });
  const broker = client(t, play);
  await broker.logIn("ada", "correct horse");
  const values = seen(broker.event("a"));
  broker.event("a").subscribe((value) => void (value === "first" && broker.logOut()));
  const first = await play.stream(1);
  const frame = (/** @type {string} */ id, /** @type {any} */ data) => `id: ${id}\ndata: ${JSON.stringify({ id, uuid: id, event: "a", data })}\n\n`;
  first.send(`${frame("x-1", "first")}event: $ready\nid: x-1\ndata: {"heartbeat":15,"time":${time}}\n\n${frame("x-2", "ada's")}`);
  const second = await play.stream(2);
  assert.deepEqual(second.request, { event: ["a"], frames: "record" });
  second.record("x-3", "a", "public");
  await settled();
  assert.equal(broker.event("a").get(), undefined); // the state of the next user is shown as a whole
  second.ready("x-3");
  await until(() => broker.event("a").state.get().status === "live");
  assert.deepEqual(values, [undefined, "first", undefined, "public"]);
});

test("T3: a client that is closed while its token is awaited sends nothing", async (t) => {
  let requests = 0;
  let answer = (/** @type {string} */ _) => {};
  const broker = client(t, played(() => (requests++, undefined)), { token: () => new Promise((resolve) => (answer = resolve)) });
  const asked = answer;
  seen(broker.event("a"));
  await until(() => answer !== asked);
  broker.close();
  answer("e30.e30.x");
  await settled();
  assert.equal(requests, 0);
});

test("T6: a listener is notified of the state once, however often the stream is opened again, and of each later value", async (t) => {
  const play = played();
  const broker = client(t, play);
  const all = seen(broker.events("a/"));
  const first = await play.stream(1);
  first.record("x-1", "a/1", 1);
  first.ready("x-1");
  await broker.events("a/").ready;
  first.end();
  const second = await play.stream(2);
  assert.deepEqual(second.request, { event: ["a/*"], frames: "record", last_event_id: "x-1", new: [] });
  second.ready("x-1");
  second.record("x-2", "a/2", 2);
  await until(() => all.at(-1)?.size === 2);
  assert.deepEqual(all.map((each) => Object.fromEntries(each)), [{}, { 1: 1 }, { 1: 1, 2: 2 }]);
});

test("T7: twenty times the server is not there for a moment, and there is never more than one stream", async (t) => {
  printed(t);
  const own = await new Server("--set", "retry_ms=50").start();
  /** @type {Set<import("node:net").Socket>} */
  const sockets = new Set();
  const relay = createServer((socket) => {
    const other = connect(own.port, "127.0.0.1");
    for (const each of [socket, other]) sockets.add(each.on("error", () => {}));
    socket.pipe(other).pipe(socket);
  });
  const port = await freePort();
  const up = () => once(relay.listen(port, "127.0.0.1"), "listening");
  const down = () => (sockets.forEach((each) => each.destroy()), sockets.clear(), relay.close());
  t.after(down);
  await up();
  const watch = watched();
  const reader = createBroker(`http://127.0.0.1:${port}`, { storage: "memory", fetch: watch.fetch });
  t.after(() => reader.close());
  seen(reader.event("n"));
  await reader.event("n").ready;
  for (let n = 0; n < 20; n++) {
    const { length } = watch.streams;
    down();
    if (n % 2) await until(() => watch.streams.length > length); // an attempt finds nobody
    await up();
    await until(() => watch.streams.length > length && reader.event("n").state.get().status === "live" && watch.open === 1);
  }
  assert.equal(watch.most, 1);
  let metrics = "";
  while (!/^broker_subscribers 1$/m.test(metrics)) metrics = await (await fetch(`${own.url}/metrics`)).text();
});

test("T9: the heartbeats of a quiet stream move its id, so that it resumes without a replay", async (t) => {
  const own = await new Server("--set", "heartbeat_s=0.2").start();
  const ada = await own.user(t, "ada");
  await ada.event("quiet").set(1);
  /** @type {any[][]} */
  const frames = [];
  const watch = watched();
  const reader = own.client(t, { fetch: watch.fetch, log: { debug: (_, ...frame) => void frames.push(frame) } });
  seen(reader.event("quiet"));
  await until(() => reader.event("quiet").get() === 1);
  for (let n = 0; n < 20; n++) await ada.event("loud").set(n);
  const head = await ada.event("loud").set(20);
  await until(() => reader.position === head.id);
  frames.length = 0;
  await own.stop("SIGKILL");
  await own.start();
  await until(() => frames.some(([, event]) => event === "$ready"));
  assert.deepEqual(frames.map(([, event]) => event), ["$ready"]);
  assert.equal(watch.streams.at(-1).last_event_id, head.id);
});

test("T21: fifty quick ends are fifty pauses of the time that the server has named, and nothing is reported", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const lines = printed(t);
  const play = played();
  const broker = client(t, play);
  const statuses = seen(broker.status);
  seen(broker.event("a"));
  await tick(t, 50);
  for (let n = 1; n <= 50; n++) {
    assert.equal(play.streams.length, n);
    play.streams[n - 1].send("retry: 300\n");
    if (n % 2) play.streams[n - 1].ready("x-1"); // a full or stopping server ends a stream before
    play.streams[n - 1].end();
    await tick(t, 299);
    assert.equal(play.streams.length, n);
    await tick(t, 1);
  }
  play.streams[50].ready("x-1");
  await tick(t, 1);
  assert.equal(broker.status.get(), "live");
  assert.deepEqual([...new Set(statuses)], ["idle", "connecting", "live"]);
  assert.deepEqual(lines, []);
});

test("a stream that ends between $reset and $ready is asked for from the beginning, and half a state is never shown", async (t) => {
  const play = played();
  const broker = client(t, play);
  const all = seen(broker.events("a/"));
  const first = await play.stream(1);
  first.record("x-1", "a/old", 1);
  first.ready("x-1");
  await until(() => all.at(-1)?.size);
  first.control("$reset", { reason: "unknown-id" });
  first.record("y-7", "a/half", 2);
  await until(() => broker.events("a/").state.get().status === "stale");
  assert.equal(broker.position, "");
  first.end();
  const second = await play.stream(2);
  assert.deepEqual(second.request, { event: ["a/*"], frames: "record" });
  second.record("y-8", "a/new", 3);
  second.end();
  const third = await play.stream(3);
  assert.deepEqual(third.request, { event: ["a/*"], frames: "record" });
  third.record("y-9", "a/newer", 4);
  third.ready("y-9");
  await until(() => broker.events("a/").state.get().status === "live");
  assert.deepEqual(all.map((each) => Object.fromEntries(each)), [{}, { old: 1 }, { newer: 4 }]);
  assert.equal(broker.position, "y-9");
});

test("after $skipped, an own write stays until its newer version is there, although the position has passed it", async (t) => {
  const play = played((path, rows) => {
    if (path !== "/insert") return;
    return Response.json(rows.map((/** @type {any} */ row) => ({ ...row, id: "x-5", user: null, published_at: 1 })), { status: 201 });
  });
  const broker = client(t, play);
  const values = seen(broker.event("a"));
  seen(broker.event("b"));
  const first = await play.stream(1);
  first.record("x-1", "a", "old");
  first.ready("x-1");
  await until(() => values.at(-1) === "old");
  first.control("$skipped", { positions: 10 });
  await broker.event("a").set("mine");
  first.record("x-7", "b", 1); // and the newest version of `a` is still to come
  await until(() => broker.event("b").get() === 1);
  assert.equal(broker.event("a").get(), "mine");
  first.record("x-9", "a", "newer");
  first.ready("x-9");
  await until(() => broker.event("a").state.get().pending === 0 && values.at(-1) === "newer");
  assert.deepEqual(values, [undefined, "old", "mine", "newer"]);
});

for (const [status, type] of /** @type {[number, string][]} */ ([[408, "request-timeout"], [429, "too-many-requests"], [500, "internal"], [503, "unavailable"]]))
  test(`T50: after a ${status} the client waits as long as it is asked to, and comes back`, async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
    let requests = 0;
    const play = played(() => (++requests === 1 ? problem(status, type, { "Retry-After": "30" }) : undefined));
    const broker = client(t, play);
    seen(broker.event("a"));
    await tick(t, 29_000, 1_000);
    assert.equal(requests, 1);
    await tick(t, 2_000);
    assert.equal(requests, 2);
    play.streams[0].ready("x-1");
    await tick(t, 1);
    assert.equal(broker.status.get(), "live");
  });

test("a time to wait that no timer has is not taken for none", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  let requests = 0;
  const broker = client(t, played(() => (requests++, problem(503, "unavailable", { "Retry-After": "99999999" }))));
  seen(broker.event("a"));
  await tick(t, 3_600_000, 60_000);
  assert.equal(requests, 1);
});

for (const [status, type] of /** @type {[number, string][]} */ ([[400, "bad-request"], [401, "unauthorized"], [403, "forbidden"]]))
  test(`T50: after a ${status} the client waits for another user or another name, and says why`, async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
    const lines = printed(t);
    let requests = 0;
    const play = played(() => (requests++, problem(status, type)));
    const broker = client(t, play);
    const all = broker.events("a/");
    seen(all);
    await tick(t, 3_600_000, 60_000);
    assert.deepEqual([requests, broker.status.get(), all.state.get().status], [1, "denied", "denied"]);
    assert.equal(all.state.get().error?.message, type);
    await assert.rejects(all.ready, { status });
    // What is watched later, and is a part of it, is denied too.
    await assert.rejects(broker.event("a/1").ready, { status });
    assert.equal(lines.length, status === 400 ? 1 : 0);
    seen(broker.event("b"));
    await tick(t, 50);
    assert.equal(requests, 2);
  });

test("what a page does at the moment of a refusal is not lost", async (t) => {
  let requests = 0;
  const play = played(() => (++requests === 1 ? problem(401, "unauthorized") : undefined));
  const broker = client(t, play);
  broker.status.subscribe((status) => void (status === "denied" && broker.logOut()));
  seen(broker.event("a"));
  (await play.stream(1)).ready("x-1");
  await until(() => broker.status.get() === "live");
});

test("a response that never comes is given up", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const lines = printed(t);
  let requests = 0;
  const play = played((_, __, { signal }) => {
    if (++requests === 1) return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  });
  const broker = client(t, play);
  seen(broker.event("a"));
  await tick(t, 34_000, 1_000);
  assert.equal(requests, 1);
  await tick(t, 4_000, 500);
  assert.equal(requests, 2);
  play.streams[0].ready("x-1");
  await tick(t, 1);
  assert.equal(broker.status.get(), "live");
  assert.match(lines.join(), /nothing came/);
});

test("a stream at the end of a redirect, which is one of everything, is not taken for the one that was asked for", async (t) => {
  const lines = printed(t);
  const play = played();
  const broker = client(t, {
    fetch: async (/** @type {string} */ url, /** @type {any} */ options) => {
      const response = await play.fetch(url, options);
      play.streams[play.streams.length - 1].ready("x-1");
      return Object.defineProperty(response, "redirected", { value: true });
    },
  });
  seen(broker.event("a"));
  await play.stream(2);
  assert.notEqual(broker.status.get(), "live");
  assert.match(lines.join(), /not Broker's/);
});

test("each interruption has one line and begins with a short pause, however long the one before was", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const lines = printed(t);
  let [down, requests] = [true, 0];
  const play = played(() => {
    requests++;
    if (down) throw new TypeError("no network");
    return undefined;
  });
  const broker = client(t, play);
  seen(broker.event("a"));
  await tick(t, 60_000, 500);
  assert.equal(lines.length, 1);
  assert.ok(requests < 12, `${requests} attempts in a minute`);
  down = false;
  await tick(t, 20_000, 500);
  play.streams[0].ready("x-1");
  await settled();
  down = true;
  requests = 0;
  play.streams[0].end();
  await tick(t, 1_000); // the time that this server has named
  assert.equal(requests, 1);
  await tick(t, 1_250);
  assert.equal(requests, 2);
  await tick(t, 60_000, 500);
  assert.equal(lines.length, 2);
});

test("what nobody watches any more is let go after half a minute, and a watcher who comes back in time costs nothing", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const play = played();
  const broker = client(t, play);
  const end = broker.event("a").subscribe(() => {});
  await tick(t, 50);
  play.streams[0].ready("x-1");
  await settled();
  end();
  await tick(t, 29_000, 14_500);
  play.streams[0].send(":\n");
  const again = broker.event("a").subscribe(() => {});
  await tick(t, 29_000, 14_500);
  play.streams[0].send(":\n");
  assert.deepEqual([play.streams.length, broker.status.get()], [1, "live"]);
  again();
  await tick(t, 30_000, 15_000);
  await settled();
  assert.ok(play.streams[0].signal.aborted);
  assert.deepEqual([play.streams.length, broker.status.get()], [1, "idle"]);
});

test("T23: a token that is refused when the stream is opened again leaves what is public, and the writes wait", async (t) => {
  const time = Date.now() / 1_000;
  let [valid, inserts] = [true, 0];
  const play = played((path, _, { headers }) => {
    if (path === "/login") return Response.json({ jwt: "one", username: "ada", time, expires_at: time + 36_000 });
    if (path === "/insert") inserts++;
    if (!valid && headers.Authorization) return problem(401, "unauthorized");
  });
  const broker = client(t, play);
  await broker.logIn("ada", "correct horse");
  seen(broker.event("a"));
  const first = await play.stream(1);
  first.record("x-1", "a", 1);
  first.send("retry: 10\n");
  first.ready("x-1");
  await until(() => broker.status.get() === "live");
  valid = false;
  first.end();
  const second = await play.stream(2);
  assert.deepEqual([second.token, second.request.last_event_id], [undefined, undefined]);
  second.ready("x-1", { denied: ["a"] });
  await until(() => broker.status.get() === "live");
  assert.deepEqual(broker.user.get(), { username: "ada", expired: true });
  assert.deepEqual([broker.event("a").get(), broker.event("a").state.get().status], [1, "stale"]);
  broker.event("a").set(2);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(inserts, 0);
});
