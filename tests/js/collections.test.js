// Collections: lists that stay in order, and long ones that are read from their end.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { List } from "../../src/broker/js/list.js";
import { Server, printed, seen, until, watched } from "./support.js";

/** @import { Collection } from "../../src/broker/js/types.js" */

const server = new Server();
before(() => server.start());

/** Random numbers that are the same in each run. @param {number} seed */
function random(seed) {
  return (/** @type {number} */ below) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
}

test("a list that is kept up to date is what sorting anew gives, whatever changes", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const below = random(seed);
    const sort = (/** @type {any} */ a, /** @type {any} */ b) => b[1].rank - a[1].rank;
    const limit = [Infinity, 0, 1, 7, 50][below(5)];
    const list = new List(sort, limit);
    /** @type {Map<string, any>} */
    const live = new Map();
    for (let turn = 0; turn < 60; turn++) {
      /** @type {Set<string>} */
      const keys = new Set();
      for (let n = below([3, 40][below(2)]); n >= 0; n--) {
        const key = `k${below(80)}`;
        if (below(3)) live.set(key, { rank: below(6), turn });
        else live.delete(key);
        keys.add(key);
      }
      const before = list.shown;
      const copy = [...before];
      list.update(live, below(10) ? keys : undefined);
      const anew = [...live].sort((a, b) => sort(a, b) || (a[0] < b[0] ? -1 : 1)).slice(0, limit);
      assert.deepEqual(list.shown, anew);
      assert.deepEqual(before, copy, "what was shown is not changed");
    }
  }
});

test("a list has every entry once, also in an order that contradicts itself", () => {
  /** @type {Record<string, (a: any, b: any) => any>} */
  const orders = {
    "a field is missing": (a, b) => a[1].rank - b[1].rank,
    "a boolean": (a, b) => a[1].rank > b[1].rank,
    "by chance": (a, b) => (a[0].length * 7 + b[0].charCodeAt(1)) % 3 - 1,
  };
  for (const [name, sort] of Object.entries(orders)) {
    const below = random(7);
    const list = new List(sort, Infinity);
    /** @type {Map<string, any>} */
    const live = new Map(Array.from({ length: 200 }, (_, n) => [`k${n}`, below(5) ? { rank: below(20) } : {}]));
    list.update(live);
    for (let turn = 0; turn < 200; turn++) {
      const key = `k${below(250)}`;
      if (below(3)) live.set(key, below(5) ? { rank: below(20) } : {});
      else live.delete(key);
      list.update(live, new Set([key]));
      assert.deepEqual(new Map(list.shown), live, name);
      assert.equal(list.shown.length, live.size, name);
    }
  }
});

test("a list of a collection follows it, and is the same array as long as nothing of it has changed", async (t) => {
  const [ada, bob] = [await server.user(t, "ada"), await server.user(t, "bob")];
  const scores = ada.events("scores/");
  const top = scores.list({ sort: (a, b) => Number(b[1]) - Number(a[1]), limit: 3 });
  const lists = seen(top);
  await scores.ready;
  for (let n = 0; n < 30; n++) bob.events("scores/").set(`s${n}`, n);
  await until(() => lists.at(-1)?.[2]?.[1] === 27);
  assert.deepEqual(top.get(), [["s29", 29], ["s28", 28], ["s27", 27]]);
  const before = top.get();
  const count = lists.length;
  const all = seen(scores);
  await bob.events("scores/").set("s1", 2);
  await until(() => all.at(-1)?.get("s1") === 2);
  assert.equal(top.get(), before);
  assert.equal(lists.length, count);
  ada.events("scores/").remove("s28");
  assert.deepEqual(lists.at(-1), [["s29", 29], ["s27", 27], ["s26", 26]]);
  assert.deepEqual(scores.list().get().length, 29);
  assert.deepEqual(scores.list({ limit: 2 }).get(), [["s0", 0], ["s1", 2]]);
  let calls = 0;
  const end = top.subscribe(() => calls++);
  end();
  end();
  await ada.events("scores/").set("s30", 30);
  assert.equal(calls, 1);
  assert.deepEqual(top.get()[0], ["s30", 30]);
});

test("a list beside another one of 20,000 entries costs no sorting and no copy for each change", async (t) => {
  const ada = await server.user(t, "ada");
  const many = ada.events("many/");
  many.changes(() => {});
  await many.ready;
  let compared = 0;
  for (let n = 0; n < 20_000; n++) many.set(`k${n}`, n);
  const top = many.list({ sort: (a, b) => (compared++, Number(b[1]) - Number(a[1])), limit: 10 });
  seen(top);
  const copy = many.get();
  compared = 0;
  for (let n = 0; n < 100; n++) many.set(`k${n}`, 100_000 + n);
  assert.ok(compared < 100 * 40, String(compared));
  assert.equal(top.get()[0][1], 100_099);
  assert.equal(copy.get("k1"), 1);
  await until(() => ada.outbox.get().length === 0);
});

/** @param {Collection<any>} collection */
const keys = (collection) => [...collection.get().keys()].sort();

/** @param {string} prefix @param {number} count @param {Server} [at] */
async function fill(prefix, count, at = server) {
  const records = Array.from({ length: count }, (_, n) => ({ event: `${prefix}${String(n).padStart(3, "0")}`, data: n }));
  await at.call("/insert", await at.token("filler"), records);
}

test("a long list begins with its newest events, and adds older ones", async (t) => {
  await fill("long/", 25);
  const watch = watched();
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  const long = ada.events("long/", { last: 10 });
  seen(long);
  await long.ready;
  assert.deepEqual(keys(long), Array.from({ length: 10 }, (_, n) => `0${15 + n}`));
  assert.deepEqual(watch.streams.map(({ event, new: added }) => [event, added]), [[["long/*"], []]]);
  assert.ok(watch.streams[0].last_event_id);
  assert.equal(await long.more(), true);
  assert.equal(long.get().size, 20);
  const [one, other] = await Promise.all([long.more(), long.more()]);
  assert.deepEqual([one, other], [false, false]);
  assert.equal(long.get().size, 25);
  assert.equal(await long.more(), false);
  assert.equal(watch.most, 1);
});

test("a long list follows the stream: new, changed and removed events, also older ones than it shows", async (t) => {
  await fill("moving/", 20);
  const [ada, bob] = [await server.user(t, "ada"), await server.user(t, "bob")];
  const shown = ada.events("moving/", { last: 5 });
  seen(shown);
  await shown.ready;
  const theirs = bob.events("moving/");
  await Promise.all([theirs.set("020", "new"), theirs.set("019", "changed"), theirs.remove("018"), theirs.set("003", "old"), theirs.remove("004")]);
  await until(() => shown.get().has("003") && !shown.get().has("018"));
  assert.deepEqual(keys(shown), ["003", "015", "016", "017", "019", "020"]);
  assert.equal(shown.get().get("019"), "changed");
  const added = shown.add("mine");
  assert.equal(shown.get().get(added.key), "mine");
  await added;
  await shown.more();
  assert.deepEqual(keys(shown).filter((key) => key < "015"), ["003", "010", "011", "012", "013", "014"]);
  while (await shown.more());
  assert.equal(shown.get().has("004"), false);
  assert.equal(shown.get().size, 20);
});

test("what is removed while older events are read does not come back, and what is changed is not set back", async (t) => {
  await fill("race/", 10);
  /** @type {(() => Promise<void>) | undefined} */
  let meanwhile;
  const watch = watched();
  const ada = await server.user(t, "ada", {
    fetch: async (...parts) => {
      const response = await watch.fetch(...parts);
      if (String(parts[0]).includes("before=")) await meanwhile?.(); // the page was read, and has not come yet
      return response;
    },
  });
  const race = ada.events("race/", { last: 4 });
  seen(race);
  await race.ready;
  const bob = await server.user(t, "bob");
  meanwhile = async () => {
    meanwhile = undefined;
    const theirs = bob.events("race/");
    await Promise.all([theirs.remove("003"), theirs.set("004", "changed"), theirs.set("end", 1)]);
    await until(() => race.get().has("end"));
  };
  await race.more();
  assert.deepEqual(keys(race), ["002", "004", "005", "006", "007", "008", "009", "end"]);
  assert.equal(race.get().get("004"), "changed");
});

test("a long list joins an open stream, beside the same events alone and as a whole", async (t) => {
  await fill("beside/", 12);
  const watch = watched();
  const ada = await server.user(t, "ada", { fetch: watch.fetch });
  const other = ada.event("beside/001");
  seen(other);
  await other.ready;
  const newest = ada.events("beside/", { last: 3 });
  seen(newest);
  await newest.ready;
  assert.deepEqual(keys(newest), ["009", "010", "011"]);
  assert.deepEqual(watch.streams.at(-1).new, []);
  assert.deepEqual(watch.streams.at(-1).event, ["beside/001", "beside/*"]);
  assert.equal(ada.event("beside/002").state.get().status, "loading");
  const all = ada.events("beside/");
  seen(all);
  await all.ready;
  assert.equal(all.get().size, 12);
  assert.deepEqual(watch.streams.at(-1).new, ["beside/*"]);
  assert.deepEqual(keys(newest), ["009", "010", "011"]);
  assert.equal(await newest.more(), true);
  assert.equal(newest.get().size, 6);
  const six = ada.events("beside/", { last: 6 });
  seen(six);
  await six.ready;
  assert.equal(six.get().size, 6);
  assert.equal(ada.events("beside/", { last: 6 }), six);
  assert.equal(watch.most, 1);
});

test("a long list is right after a restart, after $reset, and for another user", async (t) => {
  printed(t);
  const own = await new Server().start();
  await fill("again/", 12, own);
  const watch = watched();
  const ada = await own.user(t, "ada", { fetch: watch.fetch });
  const list = ada.events("again/", { last: 4 });
  seen(list);
  await list.ready;
  await own.stop("SIGKILL");
  list.set("offline", 1);
  await own.start();
  await until(() => ada.outbox.get().length === 0 && list.state.get().status === "live");
  assert.deepEqual(keys(list), ["008", "009", "010", "011", "offline"]);
  assert.ok(watch.streams.every((body) => body.last_event_id));
  await ada.logOut();
  await until(() => list.get().size === 4 && list.state.get().status === "live");
  assert.deepEqual(keys(list), ["009", "010", "011", "offline"]);
  // Another log: the server does not know the id any more.
  await own.stop("SIGKILL");
  const other = await new Server().start();
  await fill("again/", 3, other);
  await fill("again/b", 6, other);
  await other.stop();
  own.data = other.data;
  await own.start();
  await until(() => list.get().has("b005") && list.state.get().status === "live");
  assert.deepEqual(keys(list), ["b002", "b003", "b004", "b005"]);
  assert.equal(await list.more(), true);
  assert.equal(list.get().size, 8);
});

test("a value of a long list with a number beyond JavaScript's is never written again in part", async (t) => {
  const body = '[{"event":"exact/1","data":{"n":12345678901234567890,"text":"a"}},{"event":"exact/2","data":{"n":1.5,"text":"a"}}]';
  const headers = { Authorization: `Bearer ${await server.token("ada")}`, "Content-Type": "application/json" };
  await fetch(`${server.url}/insert`, { method: "POST", headers, body });
  const ada = await server.user(t, "ada");
  /** @type {Collection<any>} */
  const list = ada.events("exact/", { last: 5 });
  await list.ready;
  assert.throws(() => list.patch("1", { text: "b" }), /more digits/);
  await list.patch("2", { text: "b" });
  assert.deepEqual(list.get().get("2"), { n: 1.5, text: "b" });
});

test("a long list that may not be read is denied, without a storm of requests, and is there after a login", async (t) => {
  const own = await new Server("--set", "events_public=no").start();
  await fill("private/", 5, own);
  let asked = 0;
  const watch = watched((url) => void (url.includes("/snapshot") && asked++));
  const ada = own.client(t, { fetch: watch.fetch });
  const list = ada.events("private/", { last: 2 });
  seen(list);
  await assert.rejects(list.ready, { status: 401 });
  assert.equal(list.state.get().status, "denied");
  assert.equal(asked, 1);
  await ada.signUp("ada", "correct horse");
  await until(() => list.get().size === 2);
  assert.equal(list.state.get().status, "live");
});
