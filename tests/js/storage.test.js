// One login for several pages: those that share a storage, and those that have a login of their own.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { createBroker } from "../../src/broker/js/broker.js";
import { Server, page, played, problem, printed, seen, settled, tick, until, watched } from "./support.js";

const server = new Server();
before(() => server.start());
const PASSWORD = "correct horse";

/** A storage that several pages have, and the two pages. @param {import("node:test").TestContext} t @param {any} [options] */
function pages(t, options) {
  /** @type {Map<string, string>} */
  const kept = new Map();
  const storage = {
    getItem: (/** @type {string} */ key) => kept.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => void kept.set(key, value),
    removeItem: (/** @type {string} */ key) => void kept.delete(key),
  };
  const window = page();
  const [here, there] = [1, 2].map(() => createBroker(server.url, { storage, ...options }));
  t.after(() => {
    here.close();
    there.close();
    window.end();
  });
  return { here, there, window, kept, notify: () => window.emit("storage") };
}

test("a login in another page is a login here, as another user and back", async (t) => {
  const { here, there, notify } = pages(t);
  const users = seen(here.user);
  await there.signUp("anna", PASSWORD);
  notify();
  assert.deepEqual(here.user.get(), { username: "anna" });
  await here.event("anna/note").set("anna's");
  await there.signUp("ben", PASSWORD);
  notify();
  assert.equal(here.event("anna/note").get(), undefined);
  assert.equal((await here.event("turn").set(1)).user, "ben");
  assert.deepEqual(users, [null, { username: "anna" }, { username: "ben" }]);
});

test("a logout in another page ends the session here at once", async (t) => {
  const { here, there, notify } = pages(t);
  await there.signUp("ivy", PASSWORD);
  notify();
  const secret = here.event("secret");
  await secret.set("ivy's");
  await there.logOut();
  notify();
  assert.equal(secret.get(), undefined); // in the same turn
  assert.equal(here.user.get(), null);
});

test("a logout in another page is no session that has expired, if the stream is the first to say so", async (t) => {
  const { here, there, notify, kept } = pages(t);
  await there.signUp("jan", PASSWORD);
  notify();
  const secret = here.event("jan/secret");
  await secret.set("jan's");
  await secret.ready;
  await until(() => here.status.get() === "live" && secret.state.get().pending === 0);
  const [entry] = kept;
  const leaving = there.logOut();
  kept.set(...entry); // browsers need a moment to pass on what another page has changed
  await until(() => here.user.get()?.expired);
  assert.equal(secret.get(), "jan's");
  await leaving;
  kept.delete(entry[0]);
  notify();
  assert.equal(secret.get(), undefined);
  assert.equal(here.user.get(), null);
});

test("a logout in another page of which only the stream has heard is a logout, and nothing has expired", async (t) => {
  const { here, there, notify } = pages(t);
  await there.signUp("kai", PASSWORD);
  notify();
  seen(here.event("a"));
  await until(() => here.status.get() === "live");
  const users = seen(here.user);
  await there.logOut();
  await until(() => here.user.get() === null);
  assert.deepEqual(users, [{ username: "kai" }, null]);
});

test("a page's own login is no news for itself", async (t) => {
  const watch = watched();
  const { here } = pages(t, { fetch: watch.fetch });
  await here.signUp("lea", PASSWORD);
  seen(here.event("a"));
  await until(() => here.status.get() === "live");
  await here.event("b").set(1); // which looks into the storage
  await settled();
  assert.equal(watch.streams.length, 1);
});

test("a page that was not notified, because it was frozen, looks before it sends", async (t) => {
  const { here, there } = pages(t);
  await there.signUp("cleo", PASSWORD);
  seen(here.event("who"));
  await until(() => here.status.get() === "live");
  assert.equal(here.user.get()?.username, "cleo");
  await there.logOut();
  seen(here.event("what"));
  await until(() => here.event("what").state.get().status === "live");
  assert.equal(here.user.get(), null);
});

test("a renewal in one page is used by the other, which asks for none", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  let renewals = 0;
  const play = played((path) => {
    const time = Date.now() / 1_000;
    const granted = (/** @type {string} */ jwt) => Response.json({ jwt, username: "ada", time, expires_at: time + 36_000 });
    if (path === "/login") return granted("one");
    if (path === "/token") return renewals++, granted("two");
    if (path === "/insert") return Response.json([{ id: null }]);
  });
  const { here, there, notify } = pages(t, { fetch: play.fetch });
  await there.logIn("ada", PASSWORD);
  notify();
  seen(here.event("a"));
  await tick(t, 50);
  play.streams[0].ready("x-1");
  await settled();
  t.mock.timers.setTime(Date.now() + 8 * 3_600_000);
  await there.event("b").set(1);
  assert.equal(renewals, 1);
  notify();
  await settled();
  assert.deepEqual([renewals, play.streams.length, play.streams[1].token], [1, 2, "Bearer two"]);
  assert.equal(play.streams[1].request.last_event_id, "x-1"); // silently
});

test("what somebody else has left in the storage, or a storage that is full, is no session and no logout", async (t) => {
  const { here, kept, notify } = pages(t);
  kept.set(`broker ${server.url}/`, "no JSON");
  notify();
  assert.equal(here.user.get(), null);
  const full = createBroker(server.url, {
    storage: { getItem: () => null, removeItem: () => {}, setItem: () => { throw new Error("full"); } },
  });
  await full.signUp("full", PASSWORD);
  notify();
  const { user } = await full.event("full").set(1);
  full.close();
  assert.equal(user, "full");
});

test("T24: a page's own token of another user takes the former one's state away before anything else is shown", async (t) => {
  let token = await server.token("dora");
  const watch = watched();
  const own = server.client(t, { token: () => token, fetch: watch.fetch });
  const value = own.event("theirs");
  const values = seen(value);
  const record = await value.set("dora's");
  assert.equal(record.user, "dora");
  assert.deepEqual(own.user.get(), { username: "dora" });
  await until(() => value.state.get().status === "live" && value.state.get().pending === 0);
  token = await server.token("emil");
  seen(own.event("other")); // the next request asks for the token
  await until(() => own.user.get()?.username === "emil");
  assert.equal((await own.event("other").set(1)).user, "emil");
  await until(() => value.state.get().status === "live");
  assert.deepEqual(values, [undefined, "dora's", undefined, "dora's"]); // this server permits both to read it
  assert.equal(watch.streams.at(-1).last_event_id, undefined);
});

test("T24: what was written with the page's token waits for that user, when the page has another one's", async (t) => {
  printed(t);
  let [token, online] = [await server.token("finn"), true];
  const watch = watched((url) => {
    if (url.endsWith("/insert") && !online) throw new TypeError("no network");
  });
  const own = server.client(t, { token: () => token, fetch: watch.fetch });
  await own.event("turns").set("finn's first");
  online = false;
  const waiting = own.event("turns").set("finn's second");
  await until(() => own.outbox.get()[0].tries > 0);
  token = await server.token("gina");
  await until(() => own.user.get()?.username === "gina");
  online = true;
  assert.equal((await own.event("turns").set("gina's")).user, "gina");
  token = await server.token("finn");
  seen(own.event("turns")); // the next request asks for the token
  assert.equal((await waiting).user, "finn");
});

/** A token as Broker's, for a played server. @param {string} username @param {number} [number] */
const token = (username, number = 0) => `e30.${Buffer.from(JSON.stringify({ username, number })).toString("base64url")}.x`;

test("T23: a page's own token that is refused leaves what is shown as stale, and the page is asked for another one soon", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  let jwt = token("ada");
  const refused = `Bearer ${jwt}`;
  let valid = true;
  const play = played((_, __, { headers }) => {
    if (!valid && headers.Authorization === refused) return problem(401, "unauthorized");
  });
  const own = createBroker("http://127.0.0.1:1", { token: async () => jwt, fetch: play.fetch });
  t.after(() => own.close());
  const value = own.event("a");
  seen(value);
  await tick(t, 50);
  play.streams[0].record("x-1", "a", 1);
  play.streams[0].ready("x-1");
  await settled();
  valid = false;
  play.streams[0].control("$login", { reason: "expired" });
  await settled();
  assert.deepEqual(own.user.get(), { username: "ada", expired: true });
  assert.equal(play.streams.length, 2);
  assert.equal(play.streams[1].token, undefined);
  play.streams[1].ready("x-1", { denied: ["a"] });
  await settled();
  assert.deepEqual([value.get(), value.state.get().status], [1, "stale"]);
  await tick(t, 20_000, 1_000);
  assert.equal(play.streams.length, 2); // the page has no other token yet
  jwt = token("ada", 1);
  await tick(t, 5_000, 1_000);
  assert.equal(play.streams[2].token, `Bearer ${jwt}`);
  play.streams[2].record("x-1", "a", 1);
  play.streams[2].ready("x-1");
  await tick(t, 1);
  assert.deepEqual([own.user.get(), value.state.get().status], [{ username: "ada" }, "live"]);
  jwt = token("bob");
  await tick(t, 60_000, 15_000);
  assert.deepEqual([own.user.get(), value.get()], [{ username: "bob" }, undefined]);
});

test("T23: a page whose tokens are all refused is not asked for one after the other", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  let [asked, requests] = [0, 0];
  const play = played(() => (requests++, problem(401, "unauthorized")));
  const own = createBroker("http://127.0.0.1:1", { token: () => token("ada", asked++), fetch: play.fetch });
  t.after(() => own.close());
  seen(own.event("a"));
  await tick(t, 60_000, 1_000);
  assert.ok(requests < 30 && asked < 30, `${requests} requests, ${asked} tokens in a minute`);
  assert.equal(own.status.get(), "denied");
});

test("a page that has no token for a while loses no write, and is told why", async (t) => {
  const lines = printed(t);
  let broken = true;
  const jwt = await server.token("hugo");
  const own = server.client(t, {
    token: async () => {
      if (broken) throw new Error("the page's server is down");
      return jwt;
    },
  });
  seen(own.event("a"));
  const sent = own.event("a").set(1);
  await until(() => lines.length);
  assert.match(lines[0], /the page's server is down/);
  broken = false;
  assert.equal((await sent).user, "hugo");
});
