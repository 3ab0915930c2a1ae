// Writes: shown at once, stored once and in order, and never flipping back. T numbers are those of the list of pitfalls.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { difference, merge } from "../../src/broker/js/patch.js";
import { Server, printed, seen, until, watched } from "./support.js";

const server = new Server();
before(() => server.start());

/** @param {number} milliseconds */
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A network on which every request takes another time, and the stream comes later than the responses. */
function slow() {
  const watch = watched(() => sleep(15 * Math.random()));
  const fetch = async (/** @type {string} */ url, /** @type {RequestInit} */ options) => {
    const response = await watch.fetch(url, options);
    if (!url.endsWith("/events")) return response;
    const late = new TransformStream({
      async transform(part, control) {
        await sleep(10 + 30 * Math.random());
        control.enqueue(part);
      },
    });
    return new Response(response.body.pipeThrough(late), { headers: response.headers });
  };
  return { ...watch, fetch: /** @type {any} */ (fetch) };
}

test("a write is shown at once, and the promise has the record", async (t) => {
  const ada = await server.user(t, "ada");
  const sale = ada.event("sale");
  const values = seen(sale);
  await sale.ready;
  const sent = sale.set({ percent: 20 });
  assert.deepEqual(sale.get(), { percent: 20 });
  assert.equal(sale.state.get().pending, 1);
  const record = await sent;
  assert.equal(record.uuid, sent.uuid);
  assert.equal(record.user, "ada");
  await until(() => sale.state.get().pending === 0);
  assert.deepEqual(values, [undefined, { percent: 20 }]); // the stream brings nothing that is not shown already
  sale.remove();
  assert.equal(sale.get(), undefined);
  await until(() => sale.state.get().pending === 0);
  assert.equal(sale.state.get().exists, false);
});

test("T27: a hundred rapid writes on a slow network never flip back, here and elsewhere", async (t) => {
  const ada = await server.user(t, "ada", { fetch: slow().fetch });
  const bob = await server.user(t, "bob");
  const [mine, theirs] = [seen(ada.event("rapid")), seen(bob.event("rapid"))];
  await Promise.all([ada.event("rapid").ready, bob.event("rapid").ready]);
  for (let n = 1; n <= 100; n++) {
    ada.event("rapid").set(n);
    assert.equal(ada.event("rapid").get(), n);
    if (n % 3 === 0) await sleep(10 * Math.random());
  }
  await until(() => ada.event("rapid").state.get().pending === 0 && bob.event("rapid").get() === 100);
  for (const values of [mine, theirs]) assert.deepEqual(values.slice(1), values.slice(1).sort((a, b) => Number(a) - Number(b)));
  assert.equal(mine.length, 101);
  assert.deepEqual(await server.versions("rapid"), Array.from({ length: 100 }, (_, n) => n + 1));
});

test("T28: if one of three writes is refused, the others are stored, and the refused one is visible", async (t) => {
  const ada = await server.user(t, "ada");
  const value = ada.event("three");
  await value.ready;
  const all = [value.set({ n: 1 }), value.set({ n: 2 }, { ifLatest: "none" }), value.set({ n: 3 })];
  const results = await Promise.allSettled(all);
  assert.deepEqual(results.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
  assert.deepEqual(value.get(), { n: 3 });
  const [refused] = ada.outbox.get();
  assert.equal(refused.state, "refused");
  assert.deepEqual([refused.data, refused.error?.status, refused.error?.type], [{ n: 2 }, 412, "not-latest"]);
  ada.outbox.discard(refused.uuid);
  assert.deepEqual(ada.outbox.get(), []);
  assert.deepEqual(await server.versions("three"), [{ n: 1 }, { n: 3 }]);
});

test("two clients that change different fields while the server is killed both keep their changes", async (t) => {
  printed(t);
  const own = await new Server().start();
  const [ada, bob] = [await own.user(t, "ada"), await own.user(t, "bob")];
  /** @type {any} */
  const [mine, theirs] = [ada.event("doc"), bob.event("doc")];
  await mine.set({ title: "a", body: "b", tags: { x: 1 } });
  await Promise.all([mine.ready, theirs.ready]);
  await until(() => theirs.get()?.title === "a");
  await own.stop("SIGKILL");
  const sent = [mine.patch({ title: "A" }), mine.patch({ tags: { y: 2 } }), theirs.patch({ body: "B" }), theirs.patch({ tags: { x: null } })];
  assert.deepEqual(mine.get(), { title: "A", body: "b", tags: { x: 1, y: 2 } });
  await own.start();
  await Promise.all(sent);
  const merged = { title: "A", body: "B", tags: { y: 2 } };
  await until(() => JSON.stringify(mine.get()) === JSON.stringify(merged) && JSON.stringify(theirs.get()) === JSON.stringify(merged));
  assert.equal((await own.versions("doc")).length, 5);
});

test("two clients that count together lose nothing", async (t) => {
  const [ada, bob] = [await server.user(t, "ada", { fetch: slow().fetch }), await server.user(t, "bob", { fetch: slow().fetch })];
  /** @type {Promise<any>[]} */
  const sent = [];
  for (let n = 0; n < 25; n++) {
    for (const each of [ada, bob]) sent.push(each.event("counter").update((/** @type {any} */ count) => (count ?? 0) + 1));
    await sleep(5 * Math.random());
  }
  await Promise.all(sent);
  const versions = await server.versions("counter");
  assert.deepEqual(versions, Array.from({ length: 50 }, (_, n) => n + 1));
});

test("a change is one of the version that it names, whatever is shown meanwhile, so nothing of others is undone", async (t) => {
  let release = () => {};
  const held = new Promise((resolve) => (release = () => resolve(undefined)));
  let open = true;
  const fetch = async (/** @type {any} */ url, /** @type {any} */ options) => {
    const response = await globalThis.fetch(url, options);
    if (!url.endsWith("/events")) return response;
    const late = new TransformStream({ transform: async (part, frames) => (open || (await held), frames.enqueue(part)) });
    return new Response(response.body?.pipeThrough(late), response);
  };
  const [ada, bob] = [await server.user(t, "ada", { fetch }), await server.user(t, "bob")];
  /** @type {any} */
  const [mine, theirs] = [ada.event("named"), bob.event("named")];
  seen(mine), seen(theirs);
  await Promise.all([mine.ready, theirs.ready]);
  open = false; // from here on, the stream brings nothing to ada
  await mine.set({ a: 1, b: 1 });
  await until(() => theirs.get()?.a === 1);
  await theirs.patch({ a: 2 });
  await mine.patch({ b: 2 }); // is made anew upon a version that the stream has not brought
  await mine.update((/** @type {any} */ data) => ({ ...data, b: 3 }));
  assert.deepEqual((await server.versions("named")).at(-1), { a: 2, b: 3 });
  release();
  await until(() => mine.get().a === 2);
});

test("a function that throws when its change is made anew is refused, and holds up nothing", async (t) => {
  const [ada, bob] = [await server.user(t, "ada"), await server.user(t, "bob")];
  await bob.event("thrown").set({ a: 1 });
  const sent = ada.event("thrown").update((/** @type {any} */ data) => {
    if (data) throw new Error("there is something");
    return { b: 1 };
  });
  const next = ada.event("thrown").patch({ c: 1 });
  await assert.rejects(sent, /there is something/);
  await next;
  assert.deepEqual(await server.versions("thrown"), [{ a: 1 }, { a: 1, c: 1 }]);
});

test("a batch is stored as a whole, or refused as a whole", async (t) => {
  const ada = await server.user(t, "ada");
  const todos = ada.events("batch/");
  await todos.ready;
  const records = await ada.batch(() => {
    todos.set("a", 1);
    todos.set("b", 2);
  });
  assert.deepEqual(records.map(({ event }) => event), ["batch/a", "batch/b"]);
  const refused = ada.batch(() => {
    todos.set("c", 3);
    todos.set("a", 4, { ifLatest: "none" });
  });
  assert.equal(todos.get().get("c"), 3);
  await assert.rejects(refused, { status: 412 });
  assert.deepEqual([...todos.get()].sort(), [["a", 1], ["b", 2]]);
  assert.equal(ada.outbox.get().length, 2);
  assert.throws(() => ada.batch(() => {
    todos.set("d", 5);
    throw new Error("of the page");
  }), /of the page/);
  assert.equal(todos.get().has("d"), false);
});

test("what is written without a server is stored once, in order, when there is one", async (t) => {
  printed(t);
  const own = await new Server().start();
  let lost = 0;
  // Every other response is lost on its way, after the server has stored the records.
  const watch = watched();
  const ada = await own.user(t, "ada", {
    fetch: async (...parts) => {
      const response = await watch.fetch(...parts);
      if (String(parts[0]).endsWith("/insert") && lost++ % 2 === 0) throw new TypeError("the connection was reset");
      return response;
    },
  });
  const all = ada.events("offline/");
  await all.ready;
  await own.stop("SIGKILL");
  const sent = [1, 2, 3].map((n) => ada.event("offline/n").set(n));
  const added = all.add({ item: "tea" });
  assert.equal(all.get().size, 2);
  assert.deepEqual(ada.outbox.get().map(({ state }) => state), ["queued", "queued", "queued", "queued"]);
  await own.start();
  await Promise.all([...sent, added]);
  assert.deepEqual(ada.outbox.get(), []);
  assert.deepEqual(await own.versions("offline/n"), [1, 2, 3]);
  assert.deepEqual([...all.get().keys()].sort(), [added.key, "n"].sort());
});

test("T48: writes that nobody waits for raise nothing, and the outbox has the error", async (t) => {
  /** @type {unknown[]} */
  const unhandled = [];
  const note = (/** @type {unknown} */ error) => void unhandled.push(error);
  process.on("unhandledRejection", note);
  t.after(() => process.off("unhandledRejection", note));
  const ada = await server.user(t, "ada");
  ada.event("unwatched").set(1);
  ada.event("refused").set(1, { until: ada.now() - 1_000 }); // it would end before it begins
  ada.event("later").set(1).cancel();
  await until(() => ada.outbox.get().length === 1 && ada.outbox.get()[0].state === "refused");
  assert.equal(ada.outbox.get()[0].error?.status, 400);
  await sleep(20);
  assert.deepEqual(unhandled, []);
  assert.deepEqual(await server.versions("later"), []);
});

test("T33, T34: a write for later is not shown before its time, whatever the clock of the device says", async (t) => {
  const ada = await server.user(t, "ada");
  const sale = ada.event("scheduled");
  const values = seen(sale);
  await sale.ready;
  const device = Date.now() - 3_600_000;
  t.mock.method(Date, "now", () => device); // an hour late, and standing still
  assert.ok(ada.now() > device + 3_000_000);
  const sent = sale.set("now it is", { at: ada.now() + 700 });
  assert.equal(sale.get(), undefined);
  assert.equal((await sent).published_at, null);
  await until(() => values.length === 2);
  assert.deepEqual(values, [undefined, "now it is"]);
  const withdrawn = sale.set("never", { at: ada.now() + 60_000 });
  await withdrawn;
  await withdrawn.cancel();
  await assert.rejects(withdrawn.cancel().then(() => sale.set("late", { at: "2020-01-01T00:00:00Z", ifLate: "refuse" })), { status: 409, type: "late" });
});

test("a write that ends by itself is not shown beyond its end, even if it was never sent", async (t) => {
  printed(t);
  const own = await new Server().start();
  const ada = await own.user(t, "ada");
  const value = ada.event("ends");
  seen(value);
  await value.ready;
  await own.stop("SIGKILL");
  value.set(1, { until: ada.now() + 300 });
  assert.equal(value.get(), 1);
  await until(() => value.get() === undefined);
});

test("what JSON cannot express is refused at once", async (t) => {
  const ada = await server.user(t, "ada");
  assert.throws(() => ada.event("x").set(undefined), TypeError);
  assert.throws(() => ada.event("x").set(1, { at: "tomorrow" }), /is no time/);
  assert.deepEqual(ada.outbox.get(), []);
});

test("a value is not changed by what the page does with its own object", async (t) => {
  const ada = await server.user(t, "ada");
  const value = ada.event("mine");
  const data = { list: [1] };
  value.set(data);
  data.list.push(2);
  assert.deepEqual(value.get(), { list: [1] });
});

test("a value with a number beyond JavaScript's is shown, and never written again in part", async (t) => {
  const token = await server.token("ada");
  const body = '{"event":"exact","data":{"n":12345678901234567890,"text":"a"}}';
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  await fetch(`${server.url}/insert`, { method: "POST", headers, body });
  const ada = await server.user(t, "ada");
  /** @type {any} */
  const value = ada.event("exact");
  const unseen = value.patch({ text: "b" }); // nothing is known yet, and the server sends the value along with its 412
  await assert.rejects(unseen, { status: 412 });
  await value.ready;
  assert.throws(() => value.patch({ text: "b" }), /more digits/);
  assert.throws(() => value.update((/** @type {any} */ data) => ({ ...data, text: "b" })), /more digits/);
  await value.set({ n: 1, text: "b" });
  await value.patch({ text: "c" });
  assert.equal((await server.versions("exact")).length, 3);
});

test("T19: uuids are of version 7 and ordered, and need no crypto.randomUUID, which plain http does not have", async (t) => {
  t.mock.method(crypto, "randomUUID", () => assert.fail("is not there"));
  const ada = await server.user(t, "ada");
  const all = ada.events("ordered/");
  const keys = Array.from({ length: 200 }, (_, n) => all.add(n).key);
  assert.deepEqual(keys, [...keys].sort());
  assert.match(keys[0], /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(Math.abs(parseInt(keys[0].replace("-", "").slice(0, 12), 16) - Date.now()) < 5_000);
});

test("merge patches are those of RFC 7396", () => {
  /** @type {[any, any, any][]} */
  const cases = [
    [{ a: "b" }, { a: "c" }, { a: "c" }], [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }], [{ a: "b" }, { a: null }, {}],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }], [{ a: ["b"] }, { a: "c" }, { a: "c" }], [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }], [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
    [["a", "b"], ["c", "d"], ["c", "d"]], [{ a: "b" }, ["c"], ["c"]], [{ a: "foo" }, null, null], [{ a: "foo" }, "bar", "bar"],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }], [[1, 2], { a: "b", c: null }, { a: "b" }], [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    [undefined, { a: 1 }, { a: 1 }], [JSON.parse('{"__proto__":{"x":1}}'), { a: 1 }, JSON.parse('{"__proto__":{"x":1},"a":1}')],
  ];
  for (const [data, changes, expected] of cases) assert.deepEqual(JSON.stringify(merge(data, changes)), JSON.stringify(expected));
  assert.equal(/** @type {any} */ ({}).x, undefined);
});

test("the difference of two values leads from one to the other, or there is none", () => {
  const values = [{}, { a: 1 }, { a: { b: 1, c: [1] } }, { a: { b: 2 } }, { a: [1], d: "x" }, JSON.parse('{"__proto__":{"x":1}}')];
  for (const before of values) for (const after of values) assert.deepEqual(merge(before, difference(before, after)), after);
  assert.equal(difference({ a: 1 }, { a: null }), undefined);
  assert.equal(difference({}, { a: { b: { c: null } } }), undefined);
  assert.equal(difference(1, { a: 1 }), undefined);
});

for (const how of ["discarded", "cancelled", "refused"])
  test(`a write between two others is ${how}, and the one behind it is built upon the one before it`, async (t) => {
    printed(t);
    let down = true;
    const watch = watched((url) => {
      if (url.endsWith("/insert") && down) throw new TypeError("there is no network");
    });
    const ada = await server.user(t, "ada", { fetch: watch.fetch });
    /** @type {any} */
    const doc = ada.event(`between/${how}`);
    seen(doc);
    await doc.ready;
    ada.event("between/first").set(0);
    await until(() => watch.inserts.length > 0); // from here on, what is written has to wait, and was never tried
    doc.set({ a: 1 });
    const middle = how === "refused" ? doc.set({ a: 2 }, { ifLatest: "none" }) : doc.patch({ b: 1 });
    doc.patch({ c: 1 });
    if (how === "discarded") ada.outbox.discard(middle.uuid);
    if (how === "cancelled") middle.cancel();
    down = false;
    const { length } = watch.inserts;
    await until(() => doc.state.get().pending === 0);
    assert.ok(watch.inserts.length - length <= 5, String(watch.inserts.length - length));
    assert.deepEqual(await server.versions(`between/${how}`), [{ a: 1 }, { a: 1, c: 1 }]);
    assert.deepEqual(doc.get(), { a: 1, c: 1 });
    assert.deepEqual(ada.outbox.get().map((each) => each.state), how === "refused" ? ["refused"] : []);
  });

test("what one user may not have is refused, and does not hold up the removal that makes room", async (t) => {
  const small = new Server("--set", "event_names_per_user_max=2");
  await small.start();
  const ada = await small.user(t, "ada");
  await Promise.all([ada.event("a").set(1), ada.event("b").set(1)]);
  await assert.rejects(ada.event("c").set(1), { status: 403, type: "quota-exceeded" });
  await ada.event("a").remove();
  const [refused] = ada.outbox.get();
  assert.match(refused.error?.message ?? "", /^2 events and pending records count for you/);
  ada.outbox.retry(refused.uuid);
  await until(() => ada.outbox.get().length === 0);
  assert.equal(ada.event("c").get(), 1);
});
