// What a client must stand: other users on the same device, responses that are not Broker's, and a page that asks for much.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { isExact } from "../../src/broker/js/server.js";
import { Server, printed, seen, until, watched } from "./support.js";

const server = new Server();
before(() => server.start());

const HOUR_MS = 3_600_000;
const PASSWORD = "correct horse";

test("what one user has written is not shown to the next one, who can neither send nor discard it", async (t) => {
  let down = false;
  const watch = watched((url) => {
    if (url.endsWith("/insert") && down) throw new TypeError("no network");
  });
  const page = await server.user(t, "ada", { fetch: watch.fetch });
  const refused = page.event("own/refused").set(1, { ifLatest: "no such id" });
  await assert.rejects(refused);
  down = true;
  const sent = page.event("own/secret").set("ada's");
  await until(() => page.outbox.get().some((each) => each.tries > 0));
  assert.equal(page.outbox.get().length, 2);
  await page.logOut({ keep: true });
  assert.deepEqual(page.outbox.get(), []);
  await page.signUp(`bob-${Date.now()}`, PASSWORD);
  assert.deepEqual(page.outbox.get(), []);
  page.outbox.discard(sent.uuid);
  page.outbox.retry(refused.uuid);
  down = false;
  await page.event("own/bob").set(1);
  await page.logOut();
  await page.logIn("ada", PASSWORD);
  await sent;
  assert.deepEqual(page.outbox.get().map((each) => each.state), ["refused"]);
});

test("what one user has scheduled is not in the schedule of the next one, when the response comes late", async (t) => {
  let open = () => {};
  let stored = false;
  const gate = new Promise((resolve) => (open = () => resolve(undefined)));
  const watch = watched();
  const page = await server.user(t, "ada", {
    fetch: async (...parts) => {
      const response = await watch.fetch(...parts);
      if (String(parts[0]).endsWith("/insert")) {
        stored = true;
        await gate;
      }
      return response;
    },
  });
  const shown = seen(page.schedule);
  await page.schedule.ready;
  const sent = page.event("own/late").set("ada's secret", { at: page.now() + HOUR_MS });
  await until(() => stored); // after the logout, it would be refused, and kept until ada is back
  await page.logOut({ keep: true });
  await page.signUp(`carl-${Date.now()}`, PASSWORD);
  const { length } = shown;
  open();
  await sent;
  assert.ok(!JSON.stringify(shown.slice(length)).includes("carl"));
  assert.deepEqual(page.outbox.get(), []);
});

for (const body of ["<h1>Welcome to our network</h1>", "", "{}", "[]"])
  test(`a response that is not Broker's is no answer to a write, and it is sent again: ${body || "nothing"}`, async (t) => {
    printed(t);
    let strange = true;
    const watch = watched((url) => (url.endsWith("/insert") && strange ? new Response(body) : undefined));
    const ada = await server.user(t, "ada", { fetch: watch.fetch });
    const sent = ada.event("strange").set(body);
    await until(() => ada.outbox.get()[0]?.tries === 1 && ada.outbox.get()[0].state === "queued");
    strange = false;
    await sent;
    assert.deepEqual(ada.outbox.get(), []);
  });

test("a schedule whose server cannot be reached asks for it with pauses", async (t) => {
  printed(t);
  let asked = 0;
  const watch = watched((url) => {
    if (!url.includes("/pending")) return;
    asked++;
    throw new TypeError("no network");
  });
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  seen(ada.schedule);
  await until(() => asked >= 2);
  const begun = performance.now();
  await until(() => asked >= 4);
  assert.ok(performance.now() - begun > 500); // two pauses, of which each takes three quarters of a second, at least
});

test("a page that makes a new token at each call has one stream, and one more for each change of user", async (t) => {
  const tokens = await Promise.all(["ada", "bob"].map((name) => server.token(name)));
  let who = 0;
  const watch = watched();
  const minted = async () => {
    const headers = { Authorization: `Bearer ${tokens[0]}` };
    return (await (await fetch(`${server.url}/token`, { method: "POST", headers })).json()).jwt;
  };
  const page = server.client(t, { fetch: watch.fetch, token: () => (who ? tokens[1] : minted()) });
  seen(page.event("minted"));
  seen(page.schedule);
  await page.event("minted").ready;
  for (let n = 0; n < 5; n++) await page.event("minted").set(n);
  await until(() => page.event("minted").state.get().status === "live");
  assert.ok(watch.streams.length <= 3, String(watch.streams.length));
  who = 1;
  await until(() => page.user.get()?.username === "bob" || void page.schedule.cancel("none").catch(() => {}));
  await until(() => page.event("minted").state.get().status === "live");
  assert.ok(watch.streams.length <= 4, String(watch.streams.length));
});

test("data of other clients can be changed in part, whatever its spelling, but for numbers that JavaScript does not have", async (t) => {
  const token = await server.token("ada");
  const ada = await server.user(t, "ada");
  const raw = (/** @type {string} */ data) =>
    fetch(`${server.url}/insert`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: `{"event":"spelt","data":${data}}`,
    });
  /** @type {any} */
  const value = ada.event("spelt");
  seen(value);
  for (const data of ['{"name":"Ren\\u00e9"}', '{"n":1.0,"m":1e3}', '{"2":1,"1":2}', '{"a":"\\/","b":"12345678901234567890"}']) {
    await raw(data);
    await until(() => JSON.stringify(value.get()) === JSON.stringify(JSON.parse(data)));
    await value.patch({ changed: true });
  }
  for (const number of ["12345678901234567890", "0.12345678901234567890", "1e400", "1e-400"]) assert.equal(isExact(`{"n":${number}}`), false, number);
  for (const number of ["0.1", "-1.50", "1E5", "9007199254740991", "12345678901234567000", "1795880285.663123"]) assert.equal(isExact(`[${number}]`), true, number);
});

test("a hundred and one names, and more, are watched all the same", async (t) => {
  const ada = await server.user(t, "ada");
  for (let n = 0; n < 130; n++) seen(ada.event(`flat${n}`));
  await ada.event("flat129").ready;
  await ada.event("flat7").set(7);
  await until(() => ada.event("flat7").state.get().pending === 0);
  assert.equal(ada.event("flat129").state.get().status, "live");
});

test("a batch of which one write is discarded is not sent at all", async (t) => {
  printed(t);
  let down = true;
  const watch = watched((url) => {
    if (url.endsWith("/insert") && down) throw new TypeError("no network");
  });
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  ada.event("whole/first").set(1);
  await until(() => watch.inserts.length > 0);
  const both = ada.batch(() => {
    ada.event("whole/from").set(1);
    ada.event("whole/to").set(2);
  });
  ada.outbox.discard(ada.outbox.get()[1].uuid);
  await assert.rejects(both, /withdrawn/);
  down = false;
  await until(() => ada.outbox.get().length === 0);
  assert.deepEqual(await server.versions("whole/to"), []);
});

for (const text of ["5", "{}", "true", '{"jwt":1,"username":2}', '{"jwt":"a","username":"b"}'])
  test(`what somebody else has put into the storage is nobody's session: ${text}`, (t) => {
    const storage = { getItem: () => text, setItem() {}, removeItem() {} };
    const page = server.client(t, { storage });
    assert.equal(page.user.get(), null);
    assert.ok(Math.abs(page.now() - Date.now()) < 60_000);
  });
