// The server: its address, its calls, and its errors.

/** @import { BrokerError as Contract, EventRecord } from "./types.js" */

const TIMEOUT_MS = 60_000; // of a call: a network that has changed drops a request without an error

/** What a call is refused with (docs/http.md). @implements {Contract} */
export class BrokerError extends Error {
  /** @type {EventRecord | null | undefined} */
  latest;
  /** Which record of a batch is refused. @type {number | undefined} */
  index;
  /** How many records of a batch would pass now. @type {number | undefined} */
  allowed;
  /** Milliseconds that the server asks to wait. */
  wait = 0;

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
    /** @type {any} */
    let problem = {};
    if (response.headers.get("Content-Type")?.startsWith("application/problem+json"))
      problem = await response.json().catch(() => ({}));
    const type = String(problem.type ?? "").replace("urn:broker:problem:", "");
    const error = new BrokerError(problem.detail ?? `status ${response.status}`, response.status, type);
    error.latest = problem.latest;
    error.index = problem.index;
    error.allowed = problem.allowed;
    error.wait = 1_000 * Number(response.headers.get("Retry-After")) || 0;
    return error;
  }
}

export class Server {
  /** @param {string} url  ends with a slash @param {typeof fetch} fetch */
  constructor(url, fetch) {
    this.url = url;
    this.fetch = fetch;
  }

  /** Calls the server, and returns what it responds. @param {string} path @param {string | null} token
   * @param {string} [body]  JSON @returns {Promise<any>} @throws {BrokerError} */
  async call(path, token, body) {
    const control = new AbortController();
    const timer = setTimeout(() => control.abort(), TIMEOUT_MS);
    /** @type {Record<string, string>} */
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (token) headers.Authorization = `Bearer ${token}`;
    try {
      const response = await this.fetch(this.url + path, { method: "POST", headers, body, signal: control.signal });
      if (!response.ok) throw await BrokerError.of(response);
      return await response.json();
    } catch (error) {
      if (error instanceof BrokerError) throw error;
      throw new BrokerError(`the server cannot be reached: ${error}`);
    } finally {
      clearTimeout(timer);
    }
  }
}
