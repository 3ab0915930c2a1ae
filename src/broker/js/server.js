// The server: its address, its calls, its errors, and the pauses between attempts to reach it.

/** @import { BrokerError as Contract, EventRecord } from "./types.js" */

const TIMEOUT_MS = 60_000; // of a call: a network that has changed drops a request without an error

export const BACK_OFF_MS = 1_000; // after the first failure
const BACK_OFF_MAX_MS = 15_000;
const WAIT_MAX_MS = 3_600_000; // that a server can ask for

const TIMER_MS_MAX = 2 ** 31 - 1; // of a timer of JavaScript: a longer one would fire at once

/** The pause between two attempts: longer after each failure, and ended early if something has changed. */
export class Pause {
  failures = 0;
  #ended = false;
  #resolve = () => {};

  /** How long to wait after one more failure. @param {number} first  milliseconds after the first one */
  longer(first) {
    // Clients that have lost the same server do not come back at the same moment.
    return Math.min(first * 2 ** Math.min(this.failures++, 6), BACK_OFF_MAX_MS) * (0.75 + Math.random() / 2);
  }

  /** An attempt begins: what `end` reports from here on concerns the pause after it. */
  begin() {
    this.#ended = false;
  }

  /** @param {number} milliseconds  or Infinity */
  async wait(milliseconds) {
    if (this.#ended) return;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    await new Promise((resolve) => {
      this.#resolve = () => resolve(undefined);
      if (milliseconds <= TIMER_MS_MAX) timer = setTimeout(resolve, milliseconds);
    });
    clearTimeout(timer);
  }

  /** Ends the pause, or the one that would follow, because something has changed during the attempt. */
  end() {
    this.#ended = true;
    this.#resolve();
  }

  /** Ends the pause, and begins with short ones again. */
  forgive() {
    this.failures = 0;
    this.end();
  }
}

/** Whether JavaScript can express all numbers in a text of JSON. To write another one again would change what nobody has
 * touched. @param {string} text */
export function isExact(text) {
  if (!/[\d.]{16}|\d[eE]/.test(text)) return true;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g))
    if (token[0] !== '"' && digits(token) !== digits(String(Number(token)))) return false;
  return true;
}

/** The significant digits of a number. @param {string} number */
const digits = (number) => number.replace(/e.*$/i, "").replace(/[-.]/g, "").replace(/^0+|0+$/g, "");

/** What a call is refused with (docs/http.md). @implements {Contract} */
export class BrokerError extends Error {
  /** @type {EventRecord | null | undefined} */
  latest;
  /** @type {string | undefined} */
  path;
  /** @type {string | undefined} */
  detail;
  /** Which record of a batch is refused. @type {number | undefined} */
  index;
  /** How many records of a batch would pass now. @type {number | undefined} */
  allowed;
  /** Milliseconds that the server asks to wait. */
  wait = 0;
  /** Whether `latest` has only numbers that JavaScript can express. */
  exact = true;

  /** @param {string} message @param {number} [status]  0: there was no response of Broker's @param {string} [type] */
  constructor(message, status = 0, type = "") {
    super(message);
    this.name = "BrokerError";
    this.status = status;
    this.type = type;
  }

  /** The error that a response has. If it is not one of Broker's, but of a proxy, `type` is empty.
   * @param {Response} response */
  static async of(response) {
    const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem+json");
    const text = isProblem ? await response.text() : "{}";
    const problem = JSON.parse(text);
    const type = String(problem.type ?? "").replace("urn:broker:problem:", "");
    // The number of a record is for those who send several (`index`); and who has written meanwhile needs no other sentence.
    const detail = response.status === 412 ? "somebody else has changed it in the meantime" : problem.detail?.replace(/^record \d+: /, "");
    const error = new BrokerError(detail ?? `status ${response.status}`, response.status, type);
    error.latest = problem.latest;
    error.index = problem.index;
    // A JSON Pointer (RFC 6901) into the body, which is a record or a list of records.
    const keys = problem.pointer?.replace(/^#?(\/\d+)?\/data\//, "").replace(/\//g, ".");
    error.path = keys?.replace(/~1/g, "/").replace(/~0/g, "~");
    error.allowed = problem.allowed >= 1 ? Math.floor(problem.allowed) : undefined;
    error.exact = isExact(text);
    error.wait = Math.min(1_000 * Number(response.headers.get("Retry-After")) || 0, WAIT_MAX_MS);
    return error;
  }
}

export class Server {
  /** @param {string} url  ends with a slash @param {typeof fetch} fetch */
  constructor(url, fetch) {
    this.url = url;
    this.fetch = fetch;
  }

  /** @param {string} method @param {string} path @param {string | null} token @param {string | undefined} body  JSON
   * @param {AbortSignal} signal @param {boolean} [keepalive] */
  open(method, path, token, body, signal, keepalive) {
    /** @type {Record<string, string>} */
    const headers = body === undefined ? { Accept: "application/x-ndjson" } : { "Content-Type": "application/json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    return this.fetch(this.url + path, { method, headers, body, signal, keepalive });
  }

  /** Calls the server, and returns what it responds. @param {string} path @param {string | null} token
   * @param {string} [body]  JSON @param {boolean} [keepalive]  also if the page is closed meanwhile
   * @returns {Promise<any>} @throws {BrokerError} */
  async call(path, token, body, keepalive) {
    return (await this.#request("POST", path, token, body, keepalive)).values[0];
  }

  /** Reads a page of records. Returns also the path of the next one, if there is one, and the id as of which they are.
   * @param {string} path @param {string | null} token */
  async read(path, token) {
    const { lines, values, headers } = await this.#request("GET", path, token);
    const next = /<(\?.*?)>/.exec(headers.get("Link") ?? "")?.[1]; // relative to the address of this page
    return { lines, records: values, next: next ? path.split("?")[0] + next : "", id: headers.get("Last-Event-ID") };
  }

  /** @param {string} method @param {string} path @param {string | null} token @param {string} [body]
   * @param {boolean} [keepalive] @returns {Promise<{lines: string[], values: any[], headers: Headers}>} */
  async #request(method, path, token, body, keepalive) {
    const control = new AbortController();
    const timer = setTimeout(() => control.abort(), TIMEOUT_MS);
    try {
      const response = await this.open(method, path, token, body, control.signal, keepalive);
      if (!response.ok) throw await BrokerError.of(response);
      const lines = (await response.text()).split("\n").filter(Boolean);
      // What is no JSON is not Broker's, but for example the page of a network that wants a login.
      return { lines, values: lines.map((line) => JSON.parse(line)), headers: response.headers };
    } catch (error) {
      if (error instanceof BrokerError) throw error;
      throw new BrokerError(`the server cannot be reached: ${error}`);
    } finally {
      clearTimeout(timer);
    }
  }
}
