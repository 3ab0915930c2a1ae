// Real server processes, and clients of theirs, for the tests of the client.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { createBroker } from "../../src/broker/js/broker.js";

/** @import { Broker, Options, Store } from "../../src/broker/js/types.js" */

const PYTHON = process.env.PYTHON ?? "python3";
const BOUND_MS = 20_000;

/** `broker serve` in a process of its own. Started again, it has the same port and data. */
export class Server {
  /** @type {import("node:child_process").ChildProcess | undefined} */
  #process;
  #log = "";
  port = 0;

  /** @param {string[]} options */
  constructor(...options) {
    this.data = mkdtempSync(join(tmpdir(), "broker-js-"));
    this.options = ["--set", "retry_ms=200", ...options];
    after(async () => {
      await this.stop("SIGKILL");
      rmSync(this.data, { recursive: true, force: true });
    });
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async start() {
    // The port must be known before the first start to the tests that begin without a server.
    this.port ||= await freePort();
    const child = spawn(PYTHON, ["-m", "broker", "serve", "--data", this.data, "--port", String(this.port), ...this.options]);
    this.#process = child;
    let log = "";
    child.stderr.on("data", (part) => (this.#log = log += part));
    await until(() => log.includes("serves on ") || child.exitCode !== null, "the start of the server");
    if (child.exitCode !== null) throw new Error(log);
    return this;
  }

  /** @param {NodeJS.Signals} [signal] */
  async stop(signal = "SIGTERM") {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  /** Runs a command of the operator. @param {string[]} words */
  async run(...words) {
    const child = spawn(PYTHON, ["-m", "broker", ...words, "--data", this.data]);
    let printed = "";
    child.stdout.on("data", (part) => (printed += part));
    child.stderr.on("data", (part) => (printed += part));
    const [status] = await once(child, "exit");
    if (status !== 0) throw new Error(printed);
    return printed;
  }

  /** A client that is closed when the test has ended. @param {import("node:test").TestContext} test
   * @param {Options} [options] @returns {Broker} */
  client(test, options = {}) {
    const broker = createBroker(this.url, { storage: "memory", ...options });
    test.after(() => broker.close());
    return broker;
  }

  /** @param {import("node:test").TestContext} test @param {string} username @param {Options} [options] */
  async user(test, username, options) {
    const broker = this.client(test, options);
    const credentials = /** @type {const} */ ([username, "correct horse"]);
    await broker.signUp(...credentials).catch(() => broker.logIn(...credentials));
    return broker;
  }

  /** @param {string} path @param {string} [token] @param {any} [body] @returns {Promise<any>} */
  async call(path, token, body) {
    /** @type {Record<string, string>} */
    const headers = { "Content-Type": "application/json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const response = await fetch(this.url + path, body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) });
    return response.json();
  }

  /** @param {string} username @returns {Promise<string>} */
  async token(username) {
    const body = { username, password: "correct horse" };
    await this.call("/users", "", body);
    return (await this.call("/login", "", body)).jwt;
  }

  /** The data of all versions of an event. @param {string} event */
  async versions(event) {
    const log = await this.call(`/collections/${event}`, await this.token("reader"));
    return log.map((/** @type {any} */ record) => record.data);
  }
}

/** @returns {Promise<number>} */
export async function freePort() {
  const socket = createServer();
  await once(socket.listen(0, "127.0.0.1"), "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (socket.address());
  await once(socket.close(), "close");
  return port;
}

/** @template T @param {() => T} condition @param {string} [what] @returns {Promise<T>} */
export async function until(condition, what = String(condition)) {
  const deadline = Date.now() + BOUND_MS;
  for (;;) {
    const found = condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`did not come true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Everything that a store has shown, in order. @template T @param {Store<T>} store @returns {T[]} */
export function seen(store) {
  /** @type {T[]} */
  const all = [];
  store.subscribe((value) => void all.push(value));
  return all;
}

/** A `fetch` that counts the streams that are open, keeps their requests, and lets a test step in between.
 * @param {(url: string, options: RequestInit) => Promise<Response | void> | Response | void} [between] */
export function watched(between = () => {}) {
  const watch = {
    open: 0,
    most: 0,
    /** @type {any[]} */
    streams: [],
    /** @type {any[]} */
    inserts: [],
    /** @type {any} */
    fetch: async (/** @type {string} */ url, /** @type {RequestInit} */ options) => {
      const body = typeof options.body === "string" ? JSON.parse(options.body) : undefined;
      if (url.endsWith("/insert")) watch.inserts.push(body);
      const instead = await between(url, options);
      if (instead) return instead;
      if (!url.endsWith("/events")) return fetch(url, options);
      watch.streams.push(body);
      watch.most = Math.max(watch.most, ++watch.open);
      options.signal?.addEventListener("abort", () => watch.open--, { once: true });
      return fetch(url, options);
    },
  };
  return watch;
}

/** What the client prints on the console meanwhile. @param {import("node:test").TestContext} test @returns {string[]} */
export function printed(test) {
  /** @type {string[]} */
  const lines = [];
  test.mock.method(console, "warn", (/** @type {unknown[]} */ ...parts) => void lines.push(parts.map(String).join(" ")));
  return lines;
}

/** A server that the test plays itself, frame by frame, for what no real server does on demand.
 * @param {(path: string, body: any, options: any) => Response | Promise<Response> | undefined} [respond]  instead of
 *   opening a stream, or to other calls */
export function played(respond = () => undefined) {
  const play = {
    /** @type {Stream[]} */
    streams: [],
    /** @type {any} */
    fetch: async (/** @type {string} */ url, /** @type {any} */ options) => {
      const { pathname } = new URL(url);
      const response = await respond(pathname, options.body && JSON.parse(options.body), options);
      if (response) return response;
      const stream = new Stream(JSON.parse(options.body), options);
      play.streams.push(stream);
      return stream.response;
    },
    /** The newest stream, once there are so many. @param {number} count */
    stream: async (count) => {
      await until(() => play.streams.length >= count, `${count} streams`);
      return play.streams[count - 1];
    },
  };
  return play;
}

class Stream {
  /** @type {any} */
  #control;

  /** @param {any} request @param {any} options */
  constructor(request, { headers, signal }) {
    this.request = request;
    this.token = headers.Authorization;
    this.signal = signal;
    const body = new ReadableStream({ start: (control) => void (this.#control = control) });
    signal.addEventListener("abort", () => this.#control.error(signal.reason), { once: true });
    this.response = new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }

  /** @param {string} text */
  send(text) {
    this.#control.enqueue(new TextEncoder().encode(text));
  }

  /** @param {string} id @param {string} event @param {any} data @param {object} [fields] */
  record(id, event, data, fields) {
    const record = { id, uuid: id, event, user: null, timestamp: 1, published_at: 1, data, ...fields };
    this.send(`id: ${id}\ndata: ${JSON.stringify(record)}\n\n`);
  }

  /** @param {string} event @param {any} data @param {string} [id] */
  control(event, data, id) {
    this.send(`${id ? `id: ${id}\n` : ""}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** @param {string} id @param {object} [fields] */
  ready(id, fields) {
    this.control("$ready", { id, time: Date.now() / 1_000, heartbeat: 15, ...fields }, id);
  }

  end() {
    this.#control.close();
  }
}

/** The error of a real server, as it would respond. @param {number} status @param {string} type @param {object} [headers] */
export function problem(status, type, headers) {
  const body = JSON.stringify({ type: `urn:broker:problem:${type}`, status, detail: type });
  return new Response(body, { status, headers: { "Content-Type": "application/problem+json", ...headers } });
}

/** A page around the client, as a browser has one; `emit` is what the browser reports. */
export function page() {
  /** @type {any} */
  const here = globalThis;
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  /** @type {Set<string>} */
  const listening = new Set();
  const add = (/** @type {string} */ kind, /** @type {any} */ run) => (listening.add(kind), window.addEventListener(kind, run));
  const remove = (/** @type {string} */ kind, /** @type {any} */ run) => (listening.delete(kind), window.removeEventListener(kind, run));
  Object.assign(here, { addEventListener: add, removeEventListener: remove, document, requestAnimationFrame: () => 0 });
  return {
    listening,
    document,
    end: () => ["addEventListener", "removeEventListener", "document", "requestAnimationFrame"].forEach((name) => delete here[name]),
    emit: (/** @type {string} */ kind) => (["visibilitychange", "resume"].includes(kind) ? document : window).dispatchEvent(new Event(kind)),
  };
}

/** Lets everything run that does not wait for a clock. */
export async function settled() {
  for (let turns = 0; turns < 10; turns++) await new Promise((resolve) => setImmediate(resolve));
}

/** Moves mocked clocks on, and lets what waits for them run. @param {import("node:test").TestContext} test
 * @param {number} milliseconds @param {number} [step] */
export async function tick(test, milliseconds, step = milliseconds) {
  for (let passed = 0; passed < milliseconds; passed += step) {
    await settled();
    test.mock.timers.tick(step);
    await settled();
  }
}
