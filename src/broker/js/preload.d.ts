import type { Preloaded } from "./types.js";

/** Reads the state of events on a server that renders pages; `names` are events, and prefixes that end with `*`. Give
 * the result as `state` to `createBroker` or `BrokerProvider`, both where the page is rendered and in the page itself:
 * it is plain JSON. Make one for each request, because it is what this user may read.
 *
 * It is rejected with a `BrokerError`, whose status is 0 if the server cannot be reached. */
export function preload(
  url: string | URL,
  names: readonly string[],
  options?: { token?: string | null | undefined; fetch?: typeof fetch | undefined },
): Promise<Preloaded>;
