// Requests that the client has no function for.

/** @import { Broker } from "../js/types.js" */
/** @import { Api } from "./types.js" */

/** What the server refuses a request with (docs/http.md). */
export class ProblemError extends Error {
  /** @param {number} status  0: the server could not be reached @param {string} type @param {string} message
   * @param {{[name: string]: any}} problem  the whole response @param {string} text  the same as it came */
  constructor(status, type, message, problem = {}, text = "") {
    super(message);
    this.name = "ProblemError";
    this.status = status;
    this.type = type;
    this.problem = problem;
    this.text = text;
  }
}

/** @param {Broker} broker @param {AbortSignal} signal @returns {Api} */
export function createApi(broker, signal) {
  /** @param {string} path @param {RequestInit} [options] @param {string | null} [refused] @returns {Promise<Response>} */
  async function call(path, options, refused) {
    const token = await broker.token(refused);
    const response = await send(new URL(path.replace(/^\//, ""), broker.url), token, { ...options, signal });
    if (response.ok) return response;
    const error = await problemOf(response);
    // Another page of this browser may have another token meanwhile; otherwise, the session has ended.
    if (error.status === 401 && token && refused === undefined) return call(path, options, token);
    throw error;
  }
  return {
    get: (path) => call(path),
    post: (path, body) =>
      call(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: typeof body === "string" ? body : JSON.stringify(body),
      }),
  };
}

/** @param {URL} url @param {string | null} token @param {RequestInit} options */
async function send(url, token, options) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  try {
    return await fetch(url, { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ProblemError(0, "unreachable", "The server cannot be reached.");
  }
}

/** @param {Response} response */
export async function problemOf(response) {
  const text = await response.text();
  let problem;
  try {
    problem = JSON.parse(text);
  } catch {} // a proxy's
  const type = String(problem?.type ?? "").replace("urn:broker:problem:", "");
  return new ProblemError(response.status, type, problem?.detail ?? `The server responded with ${response.status}.`, problem ?? {}, text);
}
