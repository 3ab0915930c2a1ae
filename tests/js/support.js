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
