// The connection: one stream, which comes back, and brings each value once. T numbers are those of the list of pitfalls.

import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { Server, freePort, printed, seen, until, watched } from "./support.js";
import { createBroker } from "../../src/broker/js/broker.js";

const server = new Server();
before(() => server.start());

test("all that a page watches comes over one stream, and what is added later too", async (t) => {
  const watch = watched();
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  await ada.event("one/a").set(1);
  await ada.event("two/a").set(2);
  const [a, b] = [seen(ada.event("one/a")), seen(ada.event("two/a"))];
  await ada.event("one/a").ready;
  await ada.event("two/a").ready;
  assert.equal(watch.streams.length, 1);
  assert.deepEqual(watch.streams[0].event.sort(), ["one/a", "two/a"]);
  const two = ada.events("two/");
  assert.deepEqual([...(await two.ready)], [["a", 2]]);
  assert.deepEqual(watch.streams[1], {
    event: ["one/a", "two/*"], frames: "record", last_event_id: watch.streams[1].last_event_id, new: ["two/*"],
  });
  await until(() => watch.open === 1);
  await ada.event("two/b").set(3);
  await until(() => two.get().get("b") === 3);
  assert.equal(watch.streams.length, 2); // an event of a prefix that is watched needs no other stream
  assert.deepEqual([a.at(-1), b.at(-1)], [1, 2]);
});

test("T6, T7: a killed server is found again, with one stream, and every value once", async (t) => {
  const own = await new Server().start();
  const watch = watched();
  const ada = await own.user(t, "ada");
  const reader = own.client(t, { fetch: watch.fetch });
  const values = seen(reader.event("n"));
  await reader.event("n").ready;
  for (let n = 1; n <= 4; n++) {
    await ada.event("n").set(n);
    await until(() => reader.event("n").get() === n);
    await own.stop("SIGKILL");
    await own.start();
  }
  await until(() => reader.status.get() === "live" && watch.open === 1);
  assert.deepEqual(values, [undefined, 1, 2, 3, 4]);
  assert.equal(watch.most, 1);
  assert.ok(watch.streams.slice(1).every((each) => each.last_event_id));
});

test("T3: a client that is closed at once leaves no stream", async (t) => {
  const watch = watched();
  const broker = server.client(t, { fetch: watch.fetch });
  seen(broker.event("closed"));
  await until(() => watch.streams.length);
  broker.close();
  await until(() => watch.open === 0);
  assert.equal(broker.status.get(), "idle");
});

test("T4: a client that is closed while it waits does not come back", async (t) => {
  printed(t);
  let requests = 0;
  const broker = server.client(t, {
    fetch: async () => {
      requests++;
      throw new TypeError("no network");
    },
  });
  seen(broker.event("closed"));
  await until(() => requests === 1);
  broker.close();
  await new Promise((resolve) => setTimeout(resolve, 600)); // the server's retry is 200 ms
  assert.equal(requests, 1);
});

test("T8: a full server and a stopping one end the stream with 200, and the client comes back", async (t) => {
  const own = await new Server("--set", "subscribers_max=1").start();
  const first = own.client(t);
  await first.event("a").ready;
  const second = own.client(t);
  const watch = watched();
  const third = own.client(t, { fetch: watch.fetch });
  seen(third.event("a"));
  await until(() => watch.streams.length >= 3);
  assert.notEqual(third.status.get(), "live");
  first.close();
  second.close();
  await until(() => third.status.get() === "live");
  await own.stop("SIGTERM");
  await own.start();
  await until(() => watch.open === 1 && third.status.get() === "live");
});

test("T49: an interruption of a moment does not change the status", async (t) => {
  const ada = await server.user(t, "ada");
  await ada.event("blip").ready;
  const statuses = seen(ada.status);
  await ada.event("blip").set(0);
  for (let n = 1; n < 4; n++) {
    const other = ada.event(`blip/${n}`); // each of them makes the client open another stream
    await other.ready;
  }
  assert.deepEqual(statuses, ["live"]);
});

test("T50, T22: a proxy's 502, and a 429, are no end", async (t) => {
  printed(t);
  let tries = 0;
  const watch = watched((url) => {
    if (!url.endsWith("/events") || ++tries > 2) return;
    if (tries === 2) return new Response("", { status: 429, headers: { "Retry-After": "1" } });
    return new Response("<h1>Bad gateway</h1>", { status: 502, headers: { "Content-Type": "text/html" } });
  });
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  await ada.event("a").ready;
  assert.equal(ada.status.get(), "live");
});

test("a server that cannot be reached is reported in one clear line, and writes wait", async (t) => {
  const own = new Server();
  own.port = await freePort();
  const lines = printed(t);
  const broker = own.client(t);
  seen(broker.event("a"));
  await until(() => lines.length);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await own.start();
  await until(() => broker.status.get() === "live");
  assert.equal(lines.length, 1);
  assert.match(lines[0], /cannot be reached\. Is it running\? Is the origin of this page allowed/);
});

test("T20: bytes that a proxy holds back are reported in one line, without a storm of requests", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const lines = printed(t);
  let requests = 0;
  const broker = server.client(t, {
    fetch: /** @type {any} */ (
      async (/** @type {any} */ _, /** @type {RequestInit} */ { signal }) => {
        requests++;
        const body = new ReadableStream({ start: (control) => signal?.addEventListener("abort", () => control.error(signal.reason)) });
        return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
      }
    ),
  });
  seen(broker.event("a"));
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  for (let second = 0; second < 120; second++) {
    t.mock.timers.tick(1_000);
    for (let n = 0; n < 5; n++) await turn();
  }
  assert.ok(requests >= 2 && requests <= 5, `${requests} requests in two minutes`);
  assert.equal(lines.length, 1);
  assert.match(lines[0], /nothing came. Does a proxy hold the bytes back/);
  broker.close();
});

test("$reset: another log replaces the old state in one step", async (t) => {
  const own = await new Server().start();
  const ada = await own.user(t, "ada");
  await ada.event("x/old").set(1);
  await ada.event("x/both").set("before");
  // The reader is connected again only when the other log has its records.
  let gate = Promise.resolve();
  const reader = own.client(t, { fetch: watched(() => gate).fetch });
  const all = seen(reader.events("x/"));
  const states = seen(reader.events("x/").state);
  await reader.events("x/").ready;
  let open = () => {};
  gate = new Promise((resolve) => (open = resolve));
  await own.stop();
  rmSync(own.data, { recursive: true });
  await own.start();
  const eve = await own.user(t, "eve");
  await eve.batch(() => {
    eve.event("x/both").set("after");
    eve.event("x/new").set(2);
  });
  open();
  await until(() => reader.events("x/").get().has("new"));
  assert.deepEqual(all.map((each) => Object.fromEntries(each)), [
    {}, { old: 1, both: "before" }, { both: "after", new: 2 },
  ]);
  assert.equal(states.at(-1)?.status, "live");
});

test("$reset with the reason rights: what may not be read any more is gone at once, and a denied name denies no other", async (t) => {
  const own = await new Server("--set", "rights_reset_s=0.1").start();
  const ada = await own.user(t, "ada");
  await ada.event("secret").set(1);
  await ada.event("public/a").set(2);
  const bob = await own.user(t, "bob");
  const [secret, open] = [bob.event("secret"), bob.event("public/a")];
  const values = seen(secret);
  const states = seen(open.state);
  await secret.ready;
  const rules = join(own.data, "rules.toml");
  writeFileSync(rules, '[[event]]\nname = "public/*"\nread = "public"\ninsert = "user"\n');
  await own.run("rules", "apply", rules, "--yes");
  await until(() => secret.state.get().status === "denied");
  assert.equal(secret.get(), undefined);
  assert.deepEqual(values, [undefined, 1, undefined]);
  await until(() => open.state.get().status === "live" && open.get() === 2);
  // Everything is gone meanwhile, because which part of it may be read is known only at `$ready`.
  assert.deepEqual([...new Set(states.map(({ status }) => status))], ["loading", "live"]);
  await assert.rejects(bob.event("secret/other").ready, { status: 403 });
  assert.equal(open.state.get().status, "live");
});

test("a client can be made without a page and without a storage", async () => {
  const broker = createBroker("http://127.0.0.1:1", { storage: "local" }); // Node has no localStorage
  assert.equal(broker.user.get(), null);
  broker.close();
});

test("what is not watched any more is forgotten with the next stream, and is right when it is watched again", async (t) => {
  const own = await new Server().start();
  const ada = await own.user(t, "ada");
  await ada.event("left").set(1);
  await ada.event("kept").set(1);
  const watch = watched();
  const reader = own.client(t, { fetch: watch.fetch });
  const [left, kept] = [reader.event("left"), reader.event("kept")];
  seen(kept);
  const end = left.subscribe(() => {});
  await kept.ready;
  await until(() => left.get() === 1);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  end();
  t.mock.timers.tick(30_000);
  t.mock.timers.reset();
  assert.equal(watch.streams.length, 1); // a stream that shows more than is wanted costs less than another one
  await own.stop("SIGKILL");
  await own.start();
  await until(() => watch.streams.length > 1 && reader.status.get() === "live" && watch.open === 1);
  assert.deepEqual(watch.streams.at(-1).event, ["kept"]);
  await until(() => left.get() === undefined);
  await ada.event("left").remove();
  await ada.event("kept").set(2);
  await until(() => kept.get() === 2);
  seen(left);
  await until(() => left.state.get().status === "live");
  assert.equal(left.get(), undefined);
  assert.deepEqual(watch.streams.at(-1).new, ["left"]);
});

test("a stream that ends before it is ready asks for what is new again", async (t) => {
  const ada = await server.user(t, "ada");
  await ada.event("again/a").set(1);
  await ada.event("again/b").set(2);
  let cut = false;
  const watch = watched();
  const reader = server.client(t, {
    fetch: /** @type {any} */ (
      async (/** @type {string} */ url, /** @type {RequestInit} */ options) => {
        const response = await watch.fetch(url, options);
        if (!cut || watch.streams.length > 3) return response;
        response.body.cancel();
        return new Response("retry: 50\n", { headers: response.headers });
      }
    ),
  });
  seen(reader.event("again/a"));
  await until(() => reader.event("again/a").get() === 1);
  cut = true;
  seen(reader.event("again/b"));
  await until(() => reader.event("again/b").get() === 2);
  assert.deepEqual(watch.streams.slice(1).map((each) => each.new), [["again/b"], ["again/b"], ["again/b"]]);
});

test("more names than a server takes are watched by their folders", async (t) => {
  const ada = await server.user(t, "ada");
  const names = Array.from({ length: 150 }, (_, n) => `many/${n}`);
  await ada.batch(() => names.forEach((name, n) => void ada.event(name).set(n)));
  const reader = server.client(t);
  names.forEach((name) => void seen(reader.event(name)));
  await until(() => names.every((name, n) => reader.event(name).get() === n));
});

test("the same name gives the same object, and a prefix may leave out what lies deeper", async (t) => {
  const ada = await server.user(t, "ada");
  assert.equal(ada.event("same"), ada.event("same"));
  assert.equal(ada.events("same/"), ada.events("same/"));
  assert.notEqual(ada.events("same/"), ada.events("same/", { deep: false }));
  await ada.batch(() => {
    ada.event("same/a").set(1);
    ada.event("same/a/b").set(2);
  });
  assert.deepEqual([...(await ada.events("same/").ready).keys()], ["a", "a/b"]);
  assert.deepEqual([...(await ada.events("same/", { deep: false }).ready).keys()], ["a"]);
  const sorted = ada.events("same/").list({ sort: (a, b) => Number(b[1]) - Number(a[1]), limit: 1 });
  assert.deepEqual(sorted.get(), [["a/b", 2]]);
  assert.equal(sorted.get(), sorted.get()); // React compares
  assert.equal(ada.events("same/").get(), ada.events("same/").get());
  assert.equal(ada.events("same/").state.get(), ada.events("same/").state.get());
});

test("T43: a subscriber is notified once for all that comes in one go, and its error disturbs nobody", async (t) => {
  const ada = await server.user(t, "ada");
  const reader = server.client(t);
  const burst = reader.event("burst");
  t.mock.method(console, "error", () => {});
  burst.subscribe(() => {
    throw new Error("of the page");
  });
  const values = seen(burst);
  await burst.ready;
  await ada.batch(() => {
    for (let n = 1; n <= 500; n++) ada.event("burst").set(n);
  });
  await until(() => burst.get() === 500 && values.at(-1) === 500);
  assert.ok(values.length < 50, `${values.length} notifications`);
});

test("a name that no event can have is refused where it is given, and disturbs no other", async (t) => {
  const reader = server.client(t);
  for (const name of ["", "$rules", "orders/*", "a\nb", "half \ud83d"]) assert.throws(() => reader.event(name), TypeError, name);
  assert.throws(() => reader.events("orders/*"), /a \* is not needed/);
  assert.throws(() => reader.events("$user/"), TypeError);
  await Promise.all([reader.event("a good name 🙂").ready, reader.events("").ready]);
});
