// The merge of forms against a model: whatever happens, no edit is lost in silence, and all forms end equal.
//
// A history is a random sequence of what people, programs and networks do. What must hold is checked after each step, and
// more at the end. FORMS_HISTORIES is how many each group of forms lives through, FORMS_SEED where they begin: a failure
// prints its seed and its steps. Since the network is real, a seed repeats the steps, but not each moment.

import assert from "node:assert/strict";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { Draft, same, textOf } from "../../src/broker/js/draft.js";
import { Server, printed, problem, settled, until } from "./support.js";

const HISTORIES = Number(process.env.FORMS_HISTORIES ?? 8);
const SEED = Number(process.env.FORMS_SEED ?? Date.now() % 1_000_000);
const STEPS = 40;
const PATHS = ["a", "b", "n.c"];

const server = new Server();
before(() => server.start());

/** Random numbers that a seed repeats (mulberry32). @param {number} seed */
function randomOf(seed) {
  const next = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (/** @type {number} */ limit) => Math.floor(limit * next());
  return { below, one: (/** @type {any[]} */ all) => all[below(all.length)] };
}

/** @param {any} data @param {string} path */
const at = (data, path) => path.split(".").reduce((value, key) => (typeof value === "object" ? value?.[key] : undefined), data);

const sleep = (/** @type {number} */ milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A network that is late, loses requests and responses, refuses writes, holds the stream back and cuts it. */
class Network {
  /** What happens to the next writes. @type {any[]} */
  faults = [];
  /** The stream waits for this. @type {Promise<void> | undefined} */
  held;
  release = () => {};
  /** @type {AbortController | undefined} */
  #stream;
  #latency;

  /** @param {() => number} latency */
  constructor(latency) {
    this.#latency = latency;
  }

  hold() {
    this.held ??= new Promise((resolve) => {
      this.release = () => {
        this.held = undefined;
        resolve();
      };
    });
  }

  cut() {
    this.#stream?.abort();
  }

  calm() {
    this.faults = [];
    this.release();
  }

  /** @type {any} */
  fetch = async (/** @type {string} */ url, /** @type {any} */ options) => {
    await sleep(this.#latency());
    if (url.endsWith("/events")) return this.#open(url, options);
    if (!url.endsWith("/insert")) return fetch(url, options);
    const fault = this.faults.shift();
    if (fault === "before") throw new TypeError("the request is lost");
    if (fault > 0) return refusal(fault);
    const response = await fetch(url, options);
    const body = await response.arrayBuffer();
    await sleep(this.#latency());
    if (fault === "late") await sleep(25);
    if (fault === "after") throw new TypeError("the response is lost");
    return new Response(body, response);
  };

  /** @param {string} url @param {any} options */
  async #open(url, options) {
    const control = (this.#stream = new AbortController());
    options.signal.addEventListener("abort", () => control.abort());
    const response = await fetch(url, { ...options, signal: control.signal });
    const late = new TransformStream({
      transform: async (part, frames) => {
        await this.held;
        frames.enqueue(part);
      },
    });
    return new Response(response.body?.pipeThrough(late), response);
  }
}

/** @param {number} status */
function refusal(status) {
  if (status !== 422) return problem(status, status === 403 ? "forbidden" : "refused");
  const body = JSON.stringify({ type: "urn:broker:problem:invalid", status, detail: "it is wrong", pointer: "#/data/a" });
  return new Response(body, { status, headers: { "Content-Type": "application/problem+json" } });
}

/** A form without a document: what its fields show, and what somebody has seen and typed there. */
class Sheet {
  /** @type {Map<string, any>} */
  shown = new Map();
  /** What was shown in each field, or offered as a conflict. @type {Map<string, Set<string>>} */
  seen = new Map(PATHS.map((path) => [path, new Set([""])]));
  /** @type {Set<string>} */
  typed = new Set();
  /** What was typed, and is not shown any more although nobody has replaced it here: so it must be in the log. @type {string[]} */
  gone = [];
  /** @type {Set<string>} */
  busy = new Set();
  /** @type {Map<string, string>} */
  invalid = new Map();
  /** The server's refusal of a field. @type {Map<string, string>} */
  refusals = new Map();
  #acting = false;
  /** @type {(() => void)[]} */
  #ends;

  /** @param {any} broker @param {string} name @param {string} event */
  constructor(broker, name, event) {
    this.name = name;
    this.event = broker.event(event);
    this.draft = new Draft(this.event, {
      show: (path, value) => this.#show(path, value),
      busy: (path) => this.busy.has(path),
      problem: (path) => this.refusals.get(path) || (this.invalid.get(path) ?? ""),
      refuse: (path, text) => void this.refusals.set(path, text),
    }, () => {});
    for (const path of PATHS) this.draft.field(path, "");
    const follow = () => PATHS.forEach((path) => this.draft.receive(path));
    this.#ends = [
      this.event.subscribe(follow), this.event.state.subscribe(follow), this.event.values.session.user.subscribe(() => this.draft.adopt()),
    ];
  }

  close() {
    this.#ends.forEach((end) => end());
  }

  /** @param {string} path @param {any} value */
  #show(path, value) {
    const text = textOf(this.shown.get(path));
    if (!this.#acting && this.typed.has(text) && !same(text, value)) this.gone.push(text);
    this.shown.set(path, value);
    this.seen.get(path)?.add(textOf(value));
  }

  /** @param {string} path */
  keep(path) {
    const { conflict } = this.draft.field(path);
    this.seen.get(path)?.add(textOf(conflict?.theirs));
    this.draft.keep(path);
  }

  /** What somebody does here may replace what they have typed. @param {() => void} run */
  act(run) {
    this.#acting = true;
    run();
    this.#acting = false;
  }

  /** @param {string} path @param {any} value */
  type(path, value) {
    this.act(() => {
      this.shown.set(path, value);
      if (value) this.typed.add(textOf(value));
      this.draft.edit(path, value);
    });
  }

  /** @param {string} path */
  conflict(path) {
    return this.draft.field(path).conflict;
  }

  get edited() {
    return PATHS.filter((path) => this.draft.edited(path));
  }

  /** What must hold at every moment. */
  check() {
    this.event.values.handles.flush();
    const { status } = this.event.state.get();
    const unsent = this.event.values.outbox.of(this.event.name).length > 0;
    for (const path of PATHS) {
      const shown = this.shown.get(path);
      const { mine } = this.draft.field(path);
      assert.ok(this.busy.has(path) || same(shown, mine), `${this.name} ${path} shows ${textOf(shown)}, and has ${textOf(mine)}`);
      if (status === "loading" || status === "denied" || this.busy.has(path)) continue;
      const theirs = at(this.event.get(), path);
      if (!this.draft.edited(path)) assert.ok(same(shown, theirs), `${this.name} ${path} is not edited: ${textOf(shown)}, ${textOf(theirs)}`);
      else {
        const stored = at(this.event.values.record(this.event.name)?.data, path);
        assert.ok(unsent || !same(shown, stored), `${this.name} ${path} is edited, but stored: ${textOf(shown)}`);
        if (!unsent && !same(theirs, this.draft.field(path).base)) assert.ok(this.conflict(path), `${this.name} ${path}: a conflict is not shown`);
      }
    }
  }
}

/** The versions of an event, the oldest first. @param {any} event @returns {Promise<any[]>} */
const logOf = async (event) => {
  const log = [];
  for await (const record of event.log({ limit: 1_000 })) log.unshift(record);
  return log;
};

/** What the log must say at the end. @param {any[]} log @param {Sheet[]} sheets */
function checkLog(log, sheets) {
  const stored = new Set(log.flatMap(({ data }) => PATHS.map((path) => textOf(at(data, path)))));
  for (const { name, gone } of sheets) for (const text of gone) assert.ok(stored.has(text), `${name} typed ${text}, which is gone`);
  log.slice(1).forEach(({ data, user }, index) => {
    const sheet = sheets.find(({ name }) => name === user);
    if (!sheet) return;
    const { data: old } = log[index];
    assert.equal(data.k, old?.k, "a field without a control has changed");
    for (const path of PATHS) {
      const [was, is] = [textOf(at(old, path)), textOf(at(data, path))];
      if (was !== is) assert.ok(sheet.seen.get(path)?.has(was) || sheet.typed.has(was), `${user} has replaced ${was} by ${is} in ${path}, and has not seen it`);
    }
  });
}

/** The pauses of a client after a failure end, as they do when a page is shown again. @param {any} event */
function wake(event) {
  event.values.outbox.sender.wake();
  event.values.connection.wake();
}

/** Forms of several users on one event, and a program that writes to it, too. */
class World {
  count = 0;
  /** @type {string[]} */
  steps = [];

  /** @param {import("node:test").TestContext} test @param {Server} at @param {string} name @param {number} size */
  constructor(test, at, name, size) {
    this.test = test;
    this.server = at;
    this.name = name;
    this.size = size;
    this.random = randomOf(0);
  }

  async open() {
    const latency = () => this.random.below(6);
    this.networks = Array.from({ length: this.size }, () => new Network(latency));
    const names = this.networks.map((_, index) => `${this.name}${index}`);
    this.brokers = await Promise.all(this.networks.map(({ fetch }, index) => this.server.user(this.test, names[index], { fetch })));
    this.program = await this.server.user(this.test, `${this.name}program`);
    for (const broker of [...this.brokers, this.program]) broker.events(`form/${this.name}/`).subscribe(() => {}); // so that the stream stays open
    return this;
  }

  /** @param {number} seed @param {(world: any) => Promise<void>} [restart] */
  async live(seed, restart) {
    this.random = randomOf(seed);
    this.steps = [`seed ${seed}`];
    const event = `form/${this.name}/${seed}`;
    const brokers = /** @type {any[]} */ (this.brokers);
    const sheets = (this.sheets = brokers.map((broker, index) => new Sheet(broker, `${this.name}${index}`, event)));
    /** @type {any} */
    this.target = this.program?.event(event);
    try {
      if (this.random.below(2)) await this.target.set({ a: this.#token(), n: { c: this.#token() }, k: 1 });
      for (let step = 0; step < STEPS; step++) {
        await this.step();
        if (restart && step % 20 === 10) await restart(this);
        await settled();
        for (const sheet of sheets) sheet.check();
      }
      await this.#settle();
      const log = await logOf(this.target);
      this.steps.push(...log.map(({ data, user }) => `  log: ${user} ${JSON.stringify(data)}`));
      checkLog(log, sheets);
      for (const sheet of sheets)
        for (const path of PATHS) assert.ok(same(sheet.shown.get(path), at(log.at(-1)?.data, path)), `${sheet.name} ends with ${textOf(sheet.shown.get(path))} in ${path}`);
    } catch (error) {
      throw new Error(`${this.steps.join("\n")}\n${/** @type {any} */ (error).message}`, { cause: error });
    } finally {
      sheets.forEach((sheet) => sheet.close());
    }
  }

  #token() {
    return `t${this.count++}`;
  }

  /** Somebody, a program, or the network does something. @param {boolean} [reachable]  the server */
  async step(reachable = true) {
    const { random } = this;
    const index = random.below(this.size);
    const sheet = /** @type {Sheet[]} */ (this.sheets)[index];
    const network = /** @type {Network[]} */ (this.networks)[index];
    const path = random.one(PATHS);
    const { draft } = sheet;
    const token = this.#token();
    /** @type {Record<string, () => any>} */
    const all = {
      type: () => sheet.type(path, token),
      clear: () => sheet.type(path, ""),
      back: () => sheet.type(path, draft.field(path).base),
      leave: () => draft.leave(),
      save: () => draft.save()?.catch(() => {}),
      hide: () => draft.save(true)?.catch(() => {}),
      undo: () => sheet.act(() => draft.undo()),
      redo: () => sheet.act(() => draft.redo()),
      keep: () => sheet.keep(path),
      take: () => sheet.act(() => draft.take(path)),
      reset: () => sheet.act(() => draft.reset()),
      compose: () => sheet.busy.add(path),
      composed: () => this.#composed(sheet),
      invalid: () => sheet.invalid.set(path, "it is not valid"),
      valid: () => sheet.invalid.clear(),
      fault: () => network.faults.push(random.one(["before", "after", "after", "late", "late", 403, 409, 413, 422, 429, 503])),
      hold: () => network.hold(),
      release: () => network.release(),
      cut: () => network.cut(),
      wake: () => wake(sheet.event),
      wait: () => sleep(random.below(12)),
      patch: () => this.target.patch(path === "n.c" ? { n: { c: token } } : { [path]: token }),
      set: () => this.target.set({ a: token, b: token, k: token }),
      other: () => this.target.set(random.one(["text", 7, [1], { n: 3, k: token }])),
      remove: () => this.target.remove(),
      inexact: () => this.#inexact(token),
    };
    const kinds = [
      "type", "type", "type", "type", "type", "type", "type", "save", "save", "save", "save", "wait", "wait", "wait", "wake", "patch", "patch", "patch",
      "fault", "fault", "keep", "take", "undo", "undo", "redo", "release", "valid", "composed", ...Object.keys(all),
    ];
    const kind = random.one(kinds);
    this.steps.push(`${kind} ${sheet.name} ${path} ${token}`);
    // A program waits for its write, but nobody else does. It does not write numbers again that it cannot express.
    const done = Promise.resolve().then(all[kind]).catch(() => {});
    if (reachable && ["wait", "patch", "set", "other", "remove", "inexact"].includes(kind)) await done;
  }

  /** @param {string} token  a number that JavaScript cannot express must not be written again as another one */
  async #inexact(token) {
    const body = `{"event": ${JSON.stringify(this.target.name)}, "data": {"a": "${token}", "k": 12345678901234567891}}`;
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${await this.program?.token()}` };
    await fetch(`${this.server.url}/insert`, { method: "POST", headers, body });
  }

  /** @param {Sheet} sheet */
  #composed(sheet) {
    for (const path of sheet.busy) {
      sheet.busy.delete(path);
      const shown = sheet.shown.get(path);
      if (same(shown, sheet.draft.field(path).mine)) sheet.draft.receive(path);
      else sheet.type(path, shown);
    }
  }

  /** Everything that is held is released, and people end what they have begun. */
  async #settle() {
    const sheets = /** @type {Sheet[]} */ (this.sheets);
    this.networks?.forEach((each) => each.calm());
    await this.target.set({ a: this.#token(), k: 2 }); // an object again, with numbers that can be written
    for (const sheet of sheets) {
      this.#composed(sheet);
      sheet.invalid.clear();
    }
    const over = () => {
      for (const sheet of sheets) {
        wake(sheet.event);
        for (const path of PATHS) {
          if (sheet.refusals.get(path)) sheet.type(path, this.#token());
          if (!sheet.conflict(path)) continue;
          if (this.random.below(2)) sheet.act(() => sheet.draft.take(path));
          else sheet.keep(path);
        }
        if (!sheet.draft.saving) sheet.draft.save()?.catch(() => {});
        sheet.check();
      }
      const values = [...sheets.map(({ event }) => event), this.target].map((event) => JSON.stringify(PATHS.map((path) => at(event.get(), path))));
      const pending = sheets.some(({ event }) => event.values.outbox.of(event.name).length > 0);
      return !pending && sheets.every(({ edited }) => !edited.length) && new Set(values).size === 1;
    };
    const state = () => sheets.map((sheet) => `${sheet.name}: ${JSON.stringify([[...sheet.draft.fields], sheet.draft.saving, String(sheet.draft.refused), sheet.event.get(), sheet.event.state.get()])}`).join("\n");
    await until(over, "all is stored").catch((error) => assert.fail(`${error.message}\n${state()}`));
  }
}

describe("no edit is lost in silence, and all forms end equal, whatever happens", { concurrency: true }, () => {
  for (const [name, size] of /** @type {const} */ ([["ann", 2], ["bea", 3], ["cat", 2], ["dot", 3], ["eve", 2]]))
    test(`in ${size} forms of ${name}`, async (t) => {
      printed(t);
      const world = await new World(t, server, name, size).open();
      for (let history = 0; history < HISTORIES; history++) await world.live(SEED + 1_000_000 * name.charCodeAt(0) + history);
    });
});

test("T37: while the server is killed and started again, no edit is lost, and all forms end equal", async (t) => {
  printed(t);
  const own = await new Server().start();
  const world = await new World(t, own, "fay", 2).open();
  for (let history = 0; history < Math.ceil(HISTORIES / 16); history++)
    await world.live(SEED + history, async () => {
      await own.stop("SIGKILL");
      for (let step = 0; step < 5; step++) await world.step(false);
      await own.start();
      wake(world.target);
    });
});

/** One person's form, and a program that writes to its event.
 * @param {import("node:test").TestContext} t @param {string} name @param {any} [clients] */
async function alone(t, name, clients) {
  const { broker, program } = clients ?? { broker: await server.user(t, name), program: await server.user(t, `${name}program`) };
  /** @type {any} */
  const event = program.event(`alone/${name}`);
  event.subscribe(() => {});
  const sheet = new Sheet(broker, name, `alone/${name}`);
  t.after(() => sheet.close());
  await Promise.all([sheet.event.ready, event.ready]);
  const stored = () => until(() => !sheet.draft.saving && !sheet.edited.length && !sheet.event.state.get().pending, "it is stored");
  const followed = () => until(() => JSON.stringify(event.get()) === JSON.stringify(sheet.event.get()) && (sheet.check(), true), "the form follows");
  return { broker, sheet, event, stored, followed, save: async () => (await sheet.draft.save()?.catch(() => {}), followed()) };
}

test("a thousand steps back and forth change only one's own fields, and add at most one version each", async (t) => {
  const clients = { broker: await server.user(t, "una"), program: await server.user(t, "unaprogram") };
  await Promise.all(Array.from({ length: 10 }, (_, index) => backAndForth(t, `una${index}`, SEED + index, clients)));
});

/** @param {import("node:test").TestContext} t @param {string} name @param {number} seed @param {any} clients */
async function backAndForth(t, name, seed, clients) {
  const random = randomOf(seed);
  const { sheet, event, stored, save, followed } = await alone(t, name, clients);
  const { draft } = sheet;
  let length = 0;
  let other = 0;
  for (let step = 0; step < 100; step++) {
    if (random.below(4) === 0) {
      sheet.type(random.one(PATHS), `own${step}`);
      draft.leave();
      await save();
      assert.equal(draft.redoable, false); // what was taken back before new input cannot be written again
      const last = JSON.stringify(event.get());
      sheet.act(() => draft.redo());
      assert.equal(draft.save(), undefined);
      assert.equal(JSON.stringify(event.get()), last);
      length++;
    }
    if (random.below(4) === 0) {
      await event.patch({ k: ++other });
      length++;
    }
    if (random.below(20) === 0) {
      await event.patch({ b: `theirs${step}` });
      length++;
    }
    await followed();
    const before = event.get();
    sheet.act(() => (random.below(5) < 3 ? draft.undo() : draft.redo()));
    const changed = PATHS.filter((path) => draft.edited(path));
    assert.ok(changed.length <= 1, changed.join());
    if (changed.some((path) => sheet.conflict(path))) {
      const [path] = changed;
      // Somebody else has changed it since, which only the program does, and only there.
      assert.equal(path, "b");
      if (random.below(2)) sheet.act(() => draft.take(path));
      else sheet.keep(path);
    }
    const writes = PATHS.some((path) => draft.edited(path));
    await save();
    await stored();
    length += writes ? 1 : 0;
    const after = event.get() ?? {};
    assert.equal(after.k, before?.k);
    for (const path of PATHS) if (!changed.includes(path)) assert.ok(same(at(after, path), at(before, path)), path);
  }
  assert.equal((await logOf(event)).length, length);
  assert.ok(other > 8);
}

test("what another has changed since is not taken back, but offered; and after new input, nothing is done again", async (t) => {
  const { sheet, event, save, followed } = await alone(t, "uno");
  const { draft } = sheet;
  for (const text of ["one", "two"]) {
    sheet.type("a", text);
    draft.leave();
    await save();
  }
  await event.patch({ a: "theirs" });
  await followed();
  sheet.act(() => draft.undo());
  assert.equal(sheet.shown.get("a"), "one");
  assert.equal(sheet.conflict("a")?.theirs, "theirs");
  assert.equal(draft.save(), undefined);
  await event.patch({ a: "again" }); // what is offered is what is there now
  await until(() => sheet.conflict("a")?.theirs === "again");
  sheet.keep("a");
  await save();
  assert.equal(event.get().a, "one");
  assert.equal(draft.redoable, true);
  sheet.type("b", "new");
  assert.equal(draft.redoable, false);
  sheet.act(() => draft.redo());
  assert.deepEqual([sheet.shown.get("a"), sheet.shown.get("b")], ["one", "new"]);
  sheet.act(() => draft.undo());
  assert.equal(textOf(sheet.shown.get("b")), "");
  assert.deepEqual(sheet.edited, []);
});

test("what a reset has taken back can be brought back, also while a text is composed, and is never taken for stored", async (t) => {
  const { sheet, save } = await alone(t, "ugo");
  const { draft } = sheet;
  sheet.type("a", "typed");
  sheet.act(() => draft.reset());
  assert.deepEqual([textOf(sheet.shown.get("a")), sheet.edited], ["", []]);
  sheet.act(() => draft.undo());
  assert.deepEqual([sheet.shown.get("a"), sheet.edited], ["typed", ["a"]]);
  sheet.act(() => draft.redo());
  assert.deepEqual([textOf(sheet.shown.get("a")), sheet.edited], ["", []]);
  sheet.busy.add("b");
  sheet.type("b", "composed");
  for (const what of /** @type {const} */ (["reset", "undo", "reset", "undo"])) {
    sheet.act(() => draft[what]());
    assert.equal(textOf(draft.field("b").base), "");
  }
  assert.equal(draft.field("b").mine, "composed");
  sheet.busy.clear();
  draft.receive("b");
  await save();
  assert.deepEqual([sheet.shown.get("b"), sheet.event.get()], ["composed", { b: "composed" }]);
});

for (const options of [{}, { adopt: true }])
  test(`what was typed before a login is saved once after it, with ${JSON.stringify(options)}`, async (t) => {
    printed(t);
    const name = options.adopt ? "ida" : "ivo";
    const watcher = await server.user(t, `${name}2`);
    await watcher.event(`before/${name}`).set({ k: 1, b: "theirs" });
    const network = new Network(() => 0);
    const broker = server.client(t, { fetch: network.fetch });
    const sheet = new Sheet(broker, name, `before/${name}`);
    t.after(() => sheet.close());
    sheet.type("a", "typed");
    sheet.draft.save()?.catch(() => {});
    sheet.type("a", "typed more"); // this waits behind the first
    sheet.draft.save();
    sheet.type("n.c", "not saved yet");
    await settled();
    assert.equal(sheet.draft.saving, true);
    await broker.signUp(name, "correct horse", options);
    await until(() => !sheet.draft.saving && !sheet.draft.edited("a"));
    sheet.draft.save();
    await until(() => !sheet.edited.length && !sheet.event.state.get().pending);
    sheet.check();
    const log = await logOf(watcher.event(`before/${name}`));
    assert.deepEqual(log.map(({ data }) => data.a), [undefined, "typed", "typed more", ...log.slice(3).map(() => "typed more")]);
    assert.deepEqual(log.at(-1).data, { k: 1, b: "theirs", a: "typed more", n: { c: "not saved yet" } });
    assert.ok(log.slice(1).every(({ user }) => user === name));
  });

test("a session that ends while somebody types keeps the text, and it is saved after the same user's next login", async (t) => {
  const { broker, sheet, event, followed } = await alone(t, "eda");
  await event.set({ a: "first", k: 1 });
  await followed();
  sheet.type("a", "typed");
  await server.call("/logout", (await broker.token()) ?? "", {});
  sheet.draft.save()?.catch(() => {});
  await until(() => broker.user.get()?.expired);
  sheet.type("b", "more");
  await settled();
  assert.deepEqual([sheet.shown.get("a"), sheet.shown.get("b"), sheet.edited], ["typed", "more", ["a", "b"]]);
  assert.equal(event.get().a, "first");
  await broker.logIn("eda", "correct horse");
  sheet.draft.save()?.catch(() => {});
  await until(() => event.get().b === "more");
  await until(() => !sheet.edited.length);
  assert.deepEqual(event.get(), { a: "typed", b: "more", k: 1 });
});

test("another user's login sends nothing of the first as theirs; what is unsaved stays in the form until the first comes back", async (t) => {
  const { broker, sheet, event, followed } = await alone(t, "oda");
  const other = await server.user(t, "odb");
  await event.set({ a: "first", k: 1 });
  await followed();
  await server.call("/logout", (await broker.token()) ?? "", {});
  sheet.type("a", "of oda");
  sheet.draft.save()?.catch(() => {});
  await until(() => broker.user.get()?.expired);
  sheet.type("b", "unsaved");
  await broker.logIn("odb", "correct horse");
  await until(() => sheet.event.state.get().status === "live");
  await followed();
  assert.deepEqual([sheet.shown.get("a"), sheet.shown.get("b"), sheet.edited], ["first", "unsaved", ["b"]]);
  assert.deepEqual([sheet.draft.undoable, broker.outbox.get().length], [false, 0]);
  sheet.draft.save();
  assert.deepEqual([sheet.draft.saving, sheet.draft.field("b").error], [false, "oda has typed this, and is not logged in"]);
  await event.patch({ k: 2 });
  assert.deepEqual([event.get(), sheet.shown.get("b")], [{ a: "first", k: 2 }, "unsaved"]);
  await broker.logIn("oda", "correct horse");
  await until(() => event.get().a === "of oda");
  await until(() => !sheet.edited.length);
  sheet.check();
  const log = await logOf(other.event("alone/oda"));
  assert.deepEqual(log.map(({ data, user }) => [user, data.a, data.b]), [
    ["odaprogram", "first", undefined], ["odaprogram", "first", undefined], ["oda", "of oda", undefined], ["oda", "of oda", "unsaved"],
  ]);
});

test("what is typed survives rights that end and come back, and another log on the same port", async (t) => {
  printed(t);
  const own = await new Server("--set", "rights_reset_s=0.1").start();
  const rules = join(own.data, "rules.toml");
  const apply = async (/** @type {string} */ read) => {
    writeFileSync(rules, `[[event]]\nname = "form/*"\nread = "${read}"\ninsert = "user"\n`);
    await own.run("rules", "apply", rules, "--yes");
  };
  const broker = await own.user(t, "ria");
  const sheet = new Sheet(broker, "ria", "form/ria");
  t.after(() => sheet.close());
  await sheet.event.set({ a: "first", k: 1 });
  await until(() => sheet.draft.field("a").base === "first");
  sheet.type("a", "typed");
  await apply("nobody");
  await until(() => sheet.event.state.get().status === "denied");
  assert.deepEqual([sheet.shown.get("a"), sheet.edited], ["typed", ["a"]]);
  assert.equal(sheet.draft.save(), undefined); // what the typing is based upon is not known
  await apply("user");
  await until(() => sheet.event.get()?.a === "typed" && !sheet.edited.length);
  sheet.type("b", "more");
  await own.stop("SIGKILL");
  for (const each of readdirSync(own.data)) rmSync(join(own.data, each), { recursive: true });
  await own.start();
  await broker.signUp("ria", "correct horse"); // who was logged in is not known to the new server
  await until(() => sheet.event.state.get().status === "live");
  assert.deepEqual([sheet.shown.get("b"), sheet.edited], ["more", ["b"]]);
  sheet.draft.save();
  await until(() => !sheet.edited.length);
  assert.deepEqual((await logOf(sheet.event)).map(({ data, user }) => [user, data]), [["ria", { b: "more" }]]);
});

test("a second write that the page has sent as it was hidden is based upon what the refused first one was based upon", async (t) => {
  const network = new Network(() => 20);
  const clients = { broker: await server.user(t, "uta", { fetch: network.fetch }), program: await server.user(t, "utaprogram") };
  const { sheet, event, followed } = await alone(t, "uta", clients);
  await event.set({ a: "first" });
  await followed();
  network.faults.push(403);
  sheet.type("a", "one");
  const sent = sheet.draft.save();
  await settled();
  sheet.type("a", "two");
  sheet.draft.save(true)?.catch(() => {});
  await assert.rejects(sent, { status: 403 });
  await until(() => !sheet.draft.saving);
  assert.deepEqual([sheet.conflict("a"), sheet.edited], [undefined, []]);
  assert.deepEqual((await logOf(event)).map(({ data }) => data.a), ["first", "two"]);
});
