// What a server that renders pages reads for them: the state of some events, and the id from which the page resumes.

import { createParser } from "./frames.js";
import { BrokerError, isExact } from "./server.js";

/** @import { EventRecord } from "./types.js" */

const TIMEOUT_MS = 10_000; // nobody waits longer for a page

/** See preload.d.ts. @type {import("./preload.js").preload} */
export async function preload(url, names, { token, fetch = globalThis.fetch } = {}) {
  const address = new URL(url).href.replace(/\/?$/, "/");
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  const signal = AbortSignal.timeout(TIMEOUT_MS);

  /** @param {string} path @param {string} [body] */
  async function call(path, body) {
    const response = await fetch(address + path, { method: body ? "POST" : "GET", headers, body, signal, cache: "no-store" });
    if (!response.ok) throw await BrokerError.of(response);
    return response;
  }

  const me = token ? call("users/me").then((response) => response.json()) : null;
  const stream = call("events", JSON.stringify({ event: names, frames: "record" })).then(stateOf);
  const [user, read] = await Promise.all([me, stream]).catch((error) => {
    if (error instanceof BrokerError) throw error;
    throw new BrokerError(`the state could not be read from ${address}: ${error}`);
  });
  const denied = new Set(read.denied);
  return {
    id: read.id,
    user: user && { username: user.username },
    names: names.filter((name) => !denied.has(name)),
    state: read.records.map(({ record }) => record),
    inexact: read.records.filter(({ exact }) => !exact).map(({ record }) => record.event),
  };
}

/** Reads a stream until its state is complete. @param {Response} response */
async function stateOf(response) {
  /** @type {Map<string, {record: EventRecord, exact: boolean}>} */
  const state = new Map();
  /** @type {{id: string, denied?: string[]} | undefined} */
  let ready;
  const parse = createParser(({ event, data = "" }) => {
    if (ready || !data) return;
    const value = JSON.parse(data);
    if (event === "$ready") ready = value;
    else if (!event && value.data === null) state.delete(value.event);
    else if (!event) state.set(value.event, { record: value, exact: isExact(data) });
  }, () => {});
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  for (let part; !ready && !(part = await reader.read()).done; ) parse(decoder.decode(part.value, { stream: true }));
  await reader.cancel();
  if (!ready) throw new Error("the stream has ended");
  return { ...ready, records: [...state.values()] };
}
