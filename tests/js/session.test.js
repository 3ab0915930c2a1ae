// The session: login and logout while a client is open, tokens that are renewed, and users that take turns.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { Server, printed, seen, until, watched } from "./support.js";

const RULES = `
[[event]]
name = "public/*"
read = "public"
insert = "user"
log = "user"

[[event]]
name = "private/{who}/*"
read = "{who}"
insert = "{who}"

[[event]]
name = "box/*"
read = "user"
insert = "public"
max_bytes = 1000
rate = "1000/minute"
`;
const server = new Server("--set", "rights_reset_s=0.1");
before(async () => {
  await server.start();
  writeFileSync(join(server.data, "rules.toml"), RULES);
  await server.run("rules", "apply", join(server.data, "rules.toml"), "--yes");
});
const PASSWORD = "correct horse";

function memory() {
  /** @type {Map<string, string>} */
  const kept = new Map();
  return {
    kept,
    getItem: (/** @type {string} */ key) => kept.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => void kept.set(key, value),
    removeItem: (/** @type {string} */ key) => void kept.delete(key),
  };
}

test("a login while the client is open brings what its user may read, and a logout takes it away at once", async (t) => {
  await server.user(t, "ada").then((ada) => ada.event("private/ada/note").set("mine"));
  const watch = watched();
  const page = server.client(t, { fetch: watch.fetch });
  const [note, news] = [page.event("private/ada/note"), page.event("public/news")];
  const values = seen(note);
  seen(news);
  await news.ready;
  assert.equal(note.state.get().status, "denied");
  const user = await page.logIn("ADA", PASSWORD);
  assert.deepEqual(user, { username: "ada" });
  await until(() => note.get() === "mine");
  assert.equal(note.state.get().status, "live");
  await page.logOut();
  assert.equal(note.get(), undefined);
  await until(() => note.state.get().status === "denied" && news.state.get().status === "live");
  assert.deepEqual(values, [undefined, "mine", undefined]);
  assert.equal(watch.open, 1);
  assert.ok(watch.streams.every((each) => each.last_event_id === undefined)); // an id belongs to its user
});

test("the storage keeps the login for the next page, and forgets it with the logout", async (t) => {
  const storage = memory();
  await server.user(t, "kept", { storage });
  const next = server.client(t, { storage });
  assert.deepEqual(next.user.get(), { username: "kept" });
  await next.event("private/kept/x").set(1);
  await next.logOut();
  assert.equal(storage.kept.size, 0);
  assert.equal(server.client(t, { storage }).user.get(), null);
});

test("a storage that throws is no obstacle", async (t) => {
  const forbidden = () => {
    throw new Error("SecurityError");
  };
  const page = server.client(t, { storage: { getItem: forbidden, setItem: forbidden, removeItem: forbidden } });
  await page.signUp("stored", PASSWORD);
  await page.event("private/stored/x").set(1);
  await page.logOut();
});

test("a wrong password is an error with the server's sentence, and changes nothing", async (t) => {
  const ada = await server.user(t, "ada");
  await assert.rejects(ada.logIn("ada", "wrong password"), { status: 401, type: "unauthorized" });
  assert.deepEqual(ada.user.get(), { username: "ada" });
});

test("T22: a token is renewed before it expires, silently", async (t) => {
  const own = await new Server("--set", "token_ttl_s=3").start();
  const watch = watched();
  const ada = await own.user(t, "ada", { fetch: watch.fetch });
  const value = ada.event("a");
  const statuses = seen(ada.status);
  await value.ready;
  await new Promise((resolve) => setTimeout(resolve, 4_500));
  await value.set(1);
  await until(() => value.state.get().pending === 0);
  assert.deepEqual(ada.user.get(), { username: "ada" });
  assert.ok(watch.streams.length >= 2 && watch.streams.slice(1).every((each) => each.last_event_id));
  assert.equal(statuses.filter((status) => status !== "idle" && status !== "connecting" && status !== "live").length, 0);
});

test("a page gets the token for requests of its own, and another one, or none, if the server has refused it", async (t) => {
  const page = server.client(t, {});
  assert.equal(await page.token(), null);
  await page.signUp("token-of-page", PASSWORD);
  const token = /** @type {string} */ (await page.token());
  const headers = { Authorization: `Bearer ${token}` };
  assert.equal((await fetch(`${server.url}/users/me`, { headers })).status, 200);
  assert.equal(await page.token("another one"), token);
  assert.equal((await fetch(`${server.url}/logout`, { method: "POST", headers })).status, 200);
  assert.equal(await page.token(token), null);
  assert.deepEqual(page.user.get(), { username: "token-of-page", expired: true });
});

test("T23: a session that ends leaves what is public, and the writes wait until its user is back", async (t) => {
  const ada = await server.user(t, "ada");
  const note = ada.event("private/ada/kept");
  await note.set("before");
  const news = ada.event("public/live");
  const values = seen(note);
  seen(news);
  await note.ready;
  const body = { old: PASSWORD, password: "battery staple" };
  await server.call("/users/me/password", await server.token("ada"), body); // this ends all sessions of the user
  await until(() => ada.user.get()?.expired);
  await until(() => ada.status.get() === "live" && news.state.get().status === "live");
  assert.equal(note.get(), "before");
  assert.equal(note.state.get().status, "stale");
  const sent = note.set("after");
  assert.equal(note.get(), "after");
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(ada.outbox.get().length, 1);
  await ada.logIn("ada", "battery staple");
  await sent;
  await until(() => note.state.get().pending === 0);
  assert.deepEqual(values, ["before", "after"]);
  await server.call("/users/me/password", (await server.call("/login", "", { username: "ada", password: "battery staple" })).jwt,
    { old: "battery staple", password: PASSWORD });
});

test("T24: what one user has written is never sent as another", async (t) => {
  printed(t);
  let online = true;
  const watch = watched((url) => {
    if (url.endsWith("/insert") && !online) throw new TypeError("no network");
  });
  const page = await server.user(t, "carol", { fetch: watch.fetch });
  online = false;
  const hers = page.event("public/turns").set("carol's");
  await assert.rejects(page.logOut(), /1 writes are not sent yet/);
  await page.logOut({ keep: true });
  assert.equal(page.event("public/turns").get(), undefined);
  await page.signUp("dave", PASSWORD);
  online = true;
  await page.event("public/turns").set("dave's");
  await page.logOut();
  await page.logIn("carol", PASSWORD);
  const record = await hers;
  assert.deepEqual([record.user, record.data], ["carol", "carol's"]);
  assert.deepEqual(await server.versions("public/turns"), ["dave's", "carol's"]);
});

test("what a stranger has written becomes a user's only on request", async (t) => {
  printed(t);
  let online = false;
  const watch = watched((url) => {
    if (url.endsWith("/insert") && !online) throw new TypeError("no network");
  });
  for (const adopt of [false, true]) {
    online = false;
    const page = server.client(t, { fetch: watch.fetch });
    const sent = page.event("box/1").set({ adopt });
    await until(() => page.outbox.get()[0].tries > 0);
    await page.signUp(`stranger-${adopt}`, PASSWORD, { adopt });
    online = true;
    await page.event("box/2").set(1);
    assert.deepEqual(page.outbox.get(), []); // what a stranger has written is not for this user
    if (!adopt) {
      await page.logOut();
      assert.equal(page.outbox.get().length, 1);
    }
    assert.equal((await sent).user, adopt ? "stranger-true" : null);
  }
});

test("a page with a login of its own gives the token, which is asked for at each request", async (t) => {
  const jwt = await server.token("ada");
  let asked = 0;
  const page = server.client(t, { token: async () => (asked++, jwt) });
  await page.event("private/ada/own").set(1);
  await page.event("private/ada/own").ready;
  assert.ok(asked >= 2);
});

test("a token of the page's own that is refused causes no storm of requests, and what is public stays", async (t) => {
  const watch = watched();
  const page = server.client(t, { token: "eyJhbGciOiJIUzI1NiJ9.e30.x", fetch: watch.fetch });
  page.event("public/x").set(1);
  seen(page.event("public/x"));
  await until(() => page.status.get() === "live" && page.user.get()?.expired);
  await until(() => page.outbox.get()[0].state === "queued");
  assert.ok(watch.streams.length <= 2 && watch.inserts.length <= 1);
});

test("what nobody may write without a login waits for one, and the console says so", async (t) => {
  const lines = printed(t);
  const page = server.client(t);
  const sent = page.event("public/waits").set(1);
  await until(() => lines.length === 1);
  assert.match(lines[0], /only users may write/);
  await page.signUp("late", PASSWORD, { adopt: true });
  assert.equal((await sent).user, "late");
});
