// Devices that sleep, pages that are hidden or kept, and clocks that jump.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createBroker } from "../../src/broker/js/broker.js";
import { page, played, printed, problem, seen, settled, tick } from "./support.js";

/** A client with a stream that is live, in a page. @param {import("node:test").TestContext} t @param {any} [options] */
async function live(t, { play = played(), ...options } = {}) {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const window = page();
  const broker = createBroker("http://127.0.0.1:1", { storage: "memory", fetch: play.fetch, ...options });
  t.after(() => {
    broker.close();
    window.end();
  });
  seen(broker.event("a"));
  await tick(t, 50);
  play.streams[0]?.ready("x-1");
  await settled();
  return { broker, play, window };
}

for (const event of ["online", "pageshow", "resume", "visibilitychange"])
  test(`T10: after an hour of sleep, ${event} brings a new stream at once`, async (t) => {
    const { broker, play, window } = await live(t);
    assert.equal(broker.status.get(), "live");
    window.emit(event);
    await settled();
    assert.equal(play.streams.length, 1); // there was no sleep
    t.mock.timers.setTime(Date.now() + 3_600_000);
    play.streams[0].signal.addEventListener("abort", () => assert.equal(play.streams.length, 1));
    window.emit(event);
    await settled();
    assert.equal(play.streams.length, 2);
    play.streams[1].ready("x-1");
    await settled();
    assert.equal(broker.status.get(), "live");
    assert.ok(play.streams[0].signal.aborted);
  });

test("T10: without any event of the browser, a silent stream is replaced after two heartbeats and five seconds", async (t) => {
  const { broker, play } = await live(t);
  await tick(t, 34_000, 1_000);
  assert.equal(play.streams.length, 1);
  await tick(t, 2_000, 1_000);
  assert.equal(play.streams.length, 2);
  play.streams[1].ready("x-1", { heartbeat: 60 });
  for (let n = 0; n < 10; n++) {
    await tick(t, 60_000);
    play.streams[1].send(":\n"); // as long as heartbeats come, the stream is alive
  }
  await tick(t, 120_000);
  assert.equal(play.streams.length, 2);
  assert.equal(broker.status.get(), "live");
});

test("T10: an attempt that hangs since before the sleep is given up too", async (t) => {
  const { play, window } = await live(t);
  play.streams[0].end();
  await tick(t, 1_000);
  assert.equal(play.streams.length, 2); // and nothing comes
  t.mock.timers.setTime(Date.now() + 20_000);
  window.emit("online");
  await settled();
  assert.equal(play.streams.length, 3);
});

test("a network that is back, or a page that is shown, ends a long pause", async (t) => {
  let requests = 0;
  const { window } = await live(t, { play: played(() => (requests++, problem(503, "unavailable", { "Retry-After": "600" }))) });
  await tick(t, 60_000, 1_000);
  assert.equal(requests, 1);
  window.emit("online");
  await settled();
  assert.equal(requests, 2);
  window.document.visibilityState = "hidden";
  window.emit("visibilitychange");
  await settled();
  assert.equal(requests, 2);
  window.document.visibilityState = "visible";
  window.emit("visibilitychange");
  await settled();
  assert.equal(requests, 3);
});

test("after a hint that the network is back, the pauses are short again", async (t) => {
  printed(t);
  let requests = 0;
  const play = played(() => {
    requests++;
    throw new TypeError("no network");
  });
  const { window } = await live(t, { play });
  await tick(t, 120_000, 1_000);
  requests = 0;
  window.emit("online");
  await settled();
  assert.equal(requests, 1);
  await tick(t, 1_300, 100);
  assert.equal(requests, 2);
});

test("a call that is never answered is given up after a minute, and the write is sent again under its uuid", async (t) => {
  /** @type {string[]} */
  const uuids = [];
  const play = played((path, rows, { signal }) => {
    if (path !== "/insert") return;
    uuids.push(rows[0].uuid);
    if (uuids.length > 1) return Response.json([{ ...rows[0], id: "x-2", user: null }]);
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  });
  const { broker } = await live(t, { play });
  const sent = broker.event("a").set(1);
  await settled();
  await tick(t, 70_000, 1_000);
  assert.equal((await sent).uuid, uuids[1]);
  assert.equal(uuids[0], uuids[1]);
});

test("T32: all hints of a browser at once bring one stream, and send each write once", async (t) => {
  let [online, stored] = [false, 0];
  const play = played((path, rows) => {
    if (path !== "/insert") return;
    if (!online) throw new TypeError("no network");
    stored += rows.length;
    return Response.json(rows.map((/** @type {any} */ row) => ({ ...row, id: "x-2", user: null })));
  });
  const { broker, window } = await live(t, { play });
  broker.event("a").set(1);
  await tick(t, 10_000, 100);
  assert.equal(broker.outbox.get()[0].state, "queued");
  online = true;
  t.mock.timers.setTime(Date.now() + 3_600_000);
  for (const event of ["online", "pageshow", "resume", "visibilitychange"]) window.emit(event);
  await settled();
  assert.equal(play.streams.length, 2);
  play.streams[1].ready("x-1");
  await tick(t, 60_000, 1_000);
  assert.equal(stored, 1);
});

test("T11: a page that is hidden for ten minutes, whose timers fire once a minute, is never shown as offline", async (t) => {
  const { broker, play, window } = await live(t);
  const statuses = seen(broker.status);
  const values = seen(broker.event("a"));
  window.document.visibilityState = "hidden";
  window.emit("visibilitychange");
  for (let minute = 1; minute <= 10; minute++) {
    for (let quarter = 1; quarter <= 4; quarter++) {
      // The clock goes on, and what the network brings is read, but no timer fires.
      t.mock.timers.setTime(Date.now() + 15_000);
      play.streams[0].record(`x-${4 * minute + quarter}`, "a", 4 * minute + quarter);
      await settled();
    }
    await tick(t, 1_000);
  }
  window.document.visibilityState = "visible";
  window.emit("visibilitychange");
  await tick(t, 1_000);
  assert.equal(values.at(-1), 44);
  assert.deepEqual(statuses, ["live"]);
  assert.equal(play.streams.length, 1);
});

test("T12: a page that was frozen resumes from its id", async (t) => {
  const { play, window } = await live(t);
  play.streams[0].record("x-2", "a", 2);
  await settled();
  t.mock.timers.setTime(Date.now() + 600_000);
  window.emit("resume");
  await settled();
  assert.deepEqual(play.streams.map((/** @type {any} */ { request }) => request.last_event_id), [undefined, "x-2"]);
});

test("T13: a page that is kept for the back button holds no stream, and has one again when it is shown", async (t) => {
  const { play, window } = await live(t);
  window.emit("pagehide");
  await tick(t, 60_000, 1_000);
  assert.ok(play.streams[0].signal.aborted);
  assert.equal(play.streams.length, 1);
  window.emit("pageshow");
  await settled();
  assert.equal(play.streams.length, 2);
  assert.equal(play.streams[1].request.last_event_id, "x-1");
});

test("T44: what a client listens to in the page ends with it", async (t) => {
  const { broker, window } = await live(t);
  assert.ok(window.listening.size > 3);
  broker.close();
  assert.deepEqual([...window.listening], []);
});

const granted = (/** @type {string} */ jwt, hours = 10) => {
  const time = Date.now() / 1_000;
  return { jwt, username: "ada", time, expires_at: time + 3_600 * hours };
};

test("T23: after eight hours of sleep, the token is renewed before the stream is opened", async (t) => {
  /** @type {string[]} */
  const calls = [];
  const play = played((path, _, { headers }) => {
    calls.push(`${path} ${headers.Authorization ?? ""}`);
    if (path === "/login") return Response.json(granted("one"));
    if (path === "/token") return Response.json(granted("two"));
  });
  const { broker, window } = await live(t, { play });
  await broker.logIn("ada", "correct horse");
  await settled();
  calls.length = 0;
  // The monotonic clock stands still meanwhile, as it does on some devices, and no timer fires.
  t.mock.timers.setTime(Date.now() + 8 * 3_600_000);
  window.emit("online");
  await settled();
  assert.deepEqual(calls.slice(0, 2), ["/token Bearer one", "/events Bearer two"]);
  assert.deepEqual(broker.user.get(), { username: "ada" });
});

test("T23: a renewal that fails without a network is tried again once a minute, and with each request", async (t) => {
  t.mock.method(performance, "now", () => Date.now()); // here, the monotonic clock does not stand still
  let renewals = 0;
  let online = false;
  const play = played((path) => {
    if (path === "/login") return Response.json(granted("one"));
    if (path !== "/token") return undefined;
    renewals++;
    if (!online) throw new TypeError("no network");
    return Response.json(granted("two"));
  });
  const { broker } = await live(t, { play });
  await broker.logIn("ada", "correct horse");
  await settled();
  play.streams.at(-1)?.ready("x-1");
  const beat = async (/** @type {number} */ minutes) => {
    for (let n = 0; n < 4 * minutes; n++) {
      await tick(t, 15_000);
      play.streams.at(-1)?.send(":\n");
    }
  };
  await beat(7 * 60);
  renewals = 0;
  await beat(10);
  assert.ok(renewals >= 5 && renewals <= 20, `${renewals} renewals in ten minutes`);
  assert.deepEqual(broker.user.get(), { username: "ada" });
  online = true;
  await beat(2);
  assert.equal(play.streams.at(-1)?.token, "Bearer two");
});

test("T23: a renewal that is refused ends the session, and the stream is a stranger's", async (t) => {
  /** @type {string[]} */
  const calls = [];
  const play = played((path, _, { headers }) => {
    calls.push(`${path} ${headers.Authorization ?? ""}`);
    if (path === "/login") return Response.json(granted("one"));
    if (path === "/token") return problem(401, "unauthorized");
  });
  const { broker, window } = await live(t, { play });
  await broker.logIn("ada", "correct horse");
  await settled();
  calls.length = 0;
  t.mock.timers.setTime(Date.now() + 8 * 3_600_000);
  window.emit("online");
  await settled();
  assert.deepEqual(calls, ["/token Bearer one", "/events "]);
  assert.deepEqual(broker.user.get(), { username: "ada", expired: true });
});

test("T23: a renewal that comes after the login of another user changes nothing", async (t) => {
  let grant = (/** @type {Response} */ _) => {};
  const play = played((path, body) => {
    if (path === "/login") return Response.json({ ...granted(body.username), username: body.username });
    if (path === "/token") return new Promise((resolve) => (grant = resolve));
  });
  const { broker, window } = await live(t, { play });
  await broker.logIn("ada", "correct horse");
  await settled();
  t.mock.timers.setTime(Date.now() + 8 * 3_600_000);
  window.emit("online");
  await settled();
  await broker.logIn("bob", "correct horse");
  grant(Response.json(granted("two")));
  await settled();
  assert.deepEqual(broker.user.get(), { username: "bob" });
  assert.equal(play.streams.at(-1)?.token, "Bearer bob");
});

test("T22: each attempt has the token of its time, which the page renews", async (t) => {
  printed(t);
  let token = "one";
  /** @type {string[]} */
  const tokens = [];
  const play = played((_, __, { headers }) => {
    tokens.push(headers.Authorization);
    if (tokens.length < 3) return new Response("", { status: 502 });
  });
  await live(t, { play, token: () => token });
  for (token of ["two", "three"]) {
    const { length } = tokens;
    for (let n = 0; n < 50 && tokens.length === length; n++) await tick(t, 100);
  }
  assert.deepEqual(tokens, ["Bearer one", "Bearer two", "Bearer three"]);
});
