// The connection: one stream for all that a client watches. It reconnects, resumes by id, and widens its filter.

import { BrokerError, Pause, isExact } from "./server.js";
import { Cell } from "./store.js";

/** @import { Options, Status } from "./types.js" */
/** @typedef {{id?: string, event?: string, data?: string}} Frame */

const FRAME_CHARACTERS_MAX = 64 << 20; // of one line; the server's own limit is body_bytes_max, 1 MiB by default
const WIDEN_MS = 50; // parts of a page that are mounted one after the other share one request
const NARROW_MS = 30_000; // so a change of route, or a component that is mounted twice, costs nothing
const RECONNECTING_MS = 1_000; // shorter interruptions are not shown
const OFFLINE_MS = 10_000;
const RETRY_MS = 1_000; // until the server has named its own
const GRACE_MS = 5_000; // a stream is dead when two heartbeats are missing, and this has passed
const PENDING = "$pending"; // an event of the server's own, which needs a token
const FILTERS_MAX = 100; // `filters_max` of the server
/** The reason for which a stream was ended that has never brought anything. */
const SILENT = "silent";

/** Reads the frames that Broker writes: lines end with a line feed, `data` is one line, and a block without data has a
 * meaning of its own, because its id moves the position.
 *
 * @param {(frame: Frame) => void} dispatch
 * @param {(milliseconds: number) => void} retry
 * @returns {(text: string) => void} takes the text as it arrives, in pieces of any size */
export function createParser(dispatch, retry) {
  let rest = "";
  /** @type {Frame} */
  let frame = {};
  return (text) => {
    let start = 0;
    // Only the new piece is searched for a line feed: to search all that has come again and again would take quadratic
    // time for a long line in small pieces.
    for (let end; (end = text.indexOf("\n", start)) >= 0; start = end + 1) {
      const line = rest + text.slice(start, end);
      rest = "";
      if (line === "") {
        dispatch(frame);
        frame = {};
      } else if (line.startsWith("data: ")) frame.data = line.slice(6);
      else if (line.startsWith("id: ")) frame.id = line.slice(4);
      else if (line.startsWith("event: ")) frame.event = line.slice(7);
      else if (line.startsWith("retry: ")) retry(Number(line.slice(7)));
    }
    rest += text.slice(start);
    if (rest.length > FRAME_CHARACTERS_MAX) throw new Error("a line of the stream is too long");
  };
}

/** Prefixes match no event of the server's own, which begins with `$`.
 * @param {readonly string[]} filters @param {string} name  an event, or a filter: then whether all of it is covered */
export function covers(filters, name) {
  return filters.some((each) => each === name || (each.endsWith("*") && name[0] !== "$" && name.startsWith(each.slice(0, -1))));
}

/** @param {string} filter */
const isList = (filter) => /^\$\d/.test(filter);

/** What the server is to be asked for. A long list has a filter of its own (recent.js): `$`, a number, a space, and what to
 * ask for. @param {readonly string[]} filters */
const asked = (filters) => [...new Set(filters.map((each) => each.replace(/^\$\d\S* /, "")))];

/** Whether the stream brings an event, although perhaps not its state. @param {readonly string[]} filters @param {string} name */
export const brings = (filters, name) => covers(filters, name) || covers(asked(filters), name);

/** Of two ids of one log, the larger number is the later one; ids of different logs cannot be compared.
 * @param {string} position @param {string} id */
export function reached(position, id) {
  const [log, number] = split(position);
  const [other, wanted] = split(id);
  return log === other && number >= wanted;
}

/** @param {string} id @returns {[string, number]} */
export function split(id) {
  const at = id.lastIndexOf("-");
  return [id.slice(0, at), Number(id.slice(at + 1))];
}

/** What the connection calls.
 * @typedef {object} Listener
 * @property {(filters: readonly string[], fresh: boolean) => void} opened  before the first frame; `fresh`: without an
 *   id, so the whole state follows
 * @property {(filters: readonly string[]) => Promise<string>} begin  reads the first pages of long lists, and returns their id
 * @property {(record: any, exact: boolean) => void} record
 * @property {(reason: string) => void} reset
 * @property {() => void} skipped
 * @property {(filters: readonly string[], denied: readonly string[], time: number) => void} ready
 * @property {() => void} pending  what is pending may have changed
 * @property {() => void} moved  the position has changed
 * @property {(error: BrokerError) => void} denied  the whole stream is refused */

/** What the connection needs of a session.
 * @typedef {object} Tokens
 * @property {() => Promise<string | null>} fresh
 * @property {(token: string | null) => boolean} reject  returns whether to try again with another one */

export class Connection {
  /** @type {Cell<Status>} */
  status = new Cell(/** @type {Status} */ ("idle"));
  /** The id up to which everything was received; it belongs to a filter, a user, and a server. */
  position = "";

  // For as long as the client lives.
  #url;
  #fetch;
  #tokens;
  #listener;
  #log;
  #closed = false;
  #looping = false;
  /** How many watch each filter. @type {Map<string, number>} */
  #wanted = new Map();
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */
  #leaving = new Map();
  /** The filters whose state is complete up to the position. @type {readonly string[]} */
  #established = [];
  #retry = RETRY_MS;
  #pause = new Pause();
  #warned = false;
  #met = false; // whether a stream was ever ready
  #hidden = false; // the page is kept for the back button
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #widening;
  /** @type {ReturnType<typeof setTimeout>[]} */
  #worsening = [];
  /** @type {(() => void)[]} */
  #unlisten = [];

  // For one attempt.
  #control = new AbortController();
  /** @type {readonly string[]} */
  #filters = [];
  #heartbeat = 15; // seconds
  #received = [0, 0]; // when something came, by both clocks
  #live = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;

  /** @param {string} url @param {typeof fetch} fetch @param {Tokens} tokens @param {Listener} listener
   * @param {Options["log"]} log */
  constructor(url, fetch, tokens, listener, log) {
    this.#url = url;
    this.#fetch = fetch;
    this.#tokens = tokens;
    this.#listener = listener;
    this.#log = log;
    // There is no `document` in Node and in workers, and a `window` without addEventListener in React Native.
    this.#listen(globalThis, "online", () => this.wake());
    this.#listen(globalThis, "pageshow", () => this.wake());
    // A page that the browser keeps for the back button must not hold a connection.
    this.#listen(globalThis, "pagehide", () => {
      this.#hidden = true;
      this.#control.abort();
    });
    const page = globalThis.document;
    this.#listen(page, "resume", () => this.wake());
    this.#listen(page, "visibilitychange", () => page.visibilityState === "visible" && this.wake());
  }

  /** Watches a filter until the function that it returns is called. @param {string} filter @returns {() => void} */
  want(filter) {
    clearTimeout(this.#leaving.get(filter));
    this.#leaving.delete(filter);
    this.#wanted.set(filter, (this.#wanted.get(filter) ?? 0) + 1);
    // While a stream is open, or about to be opened, that has this filter, there is nothing to do.
    if (!covers(this.#filters, filter)) this.#widening ??= setTimeout(() => this.#widen(), WIDEN_MS);
    let done = false;
    return () => {
      if (done) return;
      done = true;
      const count = /** @type {number} */ (this.#wanted.get(filter)) - 1;
      this.#wanted.set(filter, count);
      if (count === 0 && !this.#closed) this.#leaving.set(filter, setTimeout(() => this.#narrow(filter), NARROW_MS));
    };
  }

  /** Whether the state of this event is complete. @param {string} name */
  complete(name) {
    return brings(this.#established, name);
  }

  /** Whether somebody watches this event. @param {string} name */
  watches(name) {
    return brings([...this.#wanted.keys()], name);
  }

  /** Opens the stream again, with another token. @param {{forget: boolean}} options  `forget`: it is another user's */
  restart({ forget }) {
    if (forget) {
      this.position = "";
      this.#established = [];
      this.#live = false;
    }
    this.#control.abort();
    this.#pause.forgive();
  }

  /** The device has woken up, or has a network again, or the page is shown again: a hint that is worth a look. */
  wake() {
    this.#hidden = false;
    if (this.#live && this.#silence() > 1_000 * this.#heartbeat) this.#control.abort();
    this.#pause.forgive();
  }

  close() {
    this.#closed = true;
    this.#control.abort();
    this.#pause.end();
    this.#better("idle");
    clearTimeout(this.#widening);
    clearTimeout(this.#watchdog);
    this.#leaving.forEach(clearTimeout);
    this.#unlisten.forEach((each) => each());
  }

  /** @param {any} target @param {string} kind @param {() => void} run */
  #listen(target, kind, run) {
    if (typeof target?.addEventListener !== "function") return;
    target.addEventListener(kind, run);
    this.#unlisten.push(() => target.removeEventListener(kind, run));
  }

  #widen() {
    this.#widening = undefined;
    if (this.#closed) return;
    if (!this.#looping) this.#loop();
    else if (!this.#union().every((each) => covers(this.#filters, each))) {
      this.#control.abort();
      this.#pause.end();
    }
  }

  /** @param {string} filter */
  #narrow(filter) {
    this.#leaving.delete(filter);
    this.#wanted.delete(filter);
    // A stream that shows more than is wanted stays as it is until it is opened again for another reason.
    if (this.#wanted.size === 0) this.#control.abort();
  }

  /** The fewest filters that have all that is wanted. */
  #union() {
    let all = [...this.#wanted.keys()];
    // A server accepts so many. Beyond that, a folder is watched in place of its events.
    if (all.length > FILTERS_MAX) all = all.map((each) => each.replace(/^([^/*$]*\/).*/, "$1*"));
    return [...new Set(all)].filter((each) => !covers(all.filter((other) => other !== each), each));
  }

  async #loop() {
    this.#looping = true;
    while (!this.#closed) {
      const filters = this.#union();
      this.#filters = filters;
      const wait = filters.length && !this.#hidden ? await this.#attempt(filters) : Infinity;
      if (!filters.length) this.#better("idle");
      // What was wanted meanwhile does not wait.
      if (wait > 0 && !this.#closed) await this.#pause.wait(wait);
    }
  }

  /** Opens one stream and reads it to its end. Returns after how many milliseconds to open the next one; Infinity if
   * only a change of what is wanted, or of the user, can help. @param {readonly string[]} filters */
  async #attempt(filters) {
    const control = (this.#control = new AbortController());
    /** @type {string | null} */
    let token = null;
    this.#live = false;
    this.#heard();
    this.#worse();
    try {
      token = await this.#tokens.fresh();
      if (control.signal.aborted) return 0;
      const events = token ? filters : filters.filter((each) => each !== PENDING);
      if (!events.length) {
        this.#better("idle");
        return Infinity;
      }
      const fresh = this.position === "";
      const added = events.filter((each) => !covers(this.#established, each));
      // What is not wanted any more is forgotten, because it is not kept up to date from here on.
      this.#established = filters.filter((each) => covers(this.#established, each));
      this.#listener.opened(filters, fresh);
      const lists = added.filter(isList);
      const first = lists.length ? await this.#listener.begin(lists) : "";
      if (control.signal.aborted) return 0;
      /** @type {Record<string, unknown>} */
      const body = { event: asked(events), frames: "record" };
      const from = this.position || first;
      if (from) Object.assign(body, { last_event_id: from, new: added.filter((each) => !lists.includes(each)) });
      this.#watch(control);
      const response = await this.#fetch(`${this.#url}events`, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
        body: JSON.stringify(body),
        cache: "no-store",
        signal: control.signal,
      });
      const media = response.headers.get("Content-Type") ?? "";
      if (!response.ok || !media.startsWith("text/event-stream")) throw await BrokerError.of(response);
      const reader = response.body?.getReader();
      if (!reader) throw new Error("this platform cannot read a response in pieces; give createBroker a fetch that can");
      const decoder = new TextDecoder();
      const parse = createParser(
        (frame) => control.signal.aborted || this.#take(frame, filters, control, token),
        (milliseconds) => (this.#retry = milliseconds),
      );
      for (let part; !(part = await reader.read()).done; ) {
        if (control.signal.aborted) return 0; // what a superseded stream still brings is not for us
        this.#heard();
        parse(decoder.decode(part.value, { stream: true }));
      }
      // A full or a stopping server ends a stream at once, and has named a time to come back.
      return control.signal.aborted ? 0 : this.#retry;
    } catch (error) {
      if (control.signal.aborted) return control.signal.reason === SILENT ? this.#pause.longer(this.#retry) : 0;
      if (error instanceof BrokerError && error.status) return this.#refused(error, token);
      // A restart of the server is no reason for a message, but what goes wrong at first is, and what goes on.
      if (!this.#met || this.#pause.failures) this.#warn("the server cannot be reached. Is it running? Is the origin of this page allowed (--origin)?", error);
      return this.#pause.longer(this.#retry);
    } finally {
      clearTimeout(this.#watchdog);
      control.abort();
      this.#live = false;
    }
  }

  /** @param {Frame} frame @param {readonly string[]} filters @param {AbortController} control
   * @param {string | null} token */
  #take({ id, event, data }, filters, control, token) {
    this.#log?.debug("Broker", id, event ?? "", data ?? "");
    const value = data === undefined ? undefined : JSON.parse(data);
    if (event === undefined && value) this.#listener.record(value, isExact(/** @type {string} */ (data), value));
    else if (event === PENDING) this.#listener.pending();
    else if (event === "$reset") {
      this.position = "";
      this.#established = [];
      this.#listener.reset(value.reason);
      // The server would send the whole of a long list now.
      if (filters.some(isList)) return control.abort();
    } else if (event === "$skipped") this.#listener.skipped();
    else if (event === "$login") {
      this.#tokens.reject(token);
      control.abort();
    }
    if (id !== undefined) this.position = id;
    if (event === "$ready") {
      this.#established = filters;
      this.#heartbeat = value.heartbeat;
      this.#pause.failures = 0;
      this.#live = this.#met = true;
      this.#warned = false;
      this.#better("live");
      this.#listener.ready(filters, value.denied ?? [], value.time);
    } else if (id !== undefined) this.#listener.moved();
  }

  /** @param {BrokerError} error @param {string | null} token */
  #refused(error, token) {
    if (error.type && error.status === 401 && this.#tokens.reject(token)) return 0;
    if (error.type && [400, 401, 403].includes(error.status)) {
      if (error.status === 400) this.#warn(error.message);
      this.#better("denied");
      this.#listener.denied(error);
      return Infinity;
    }
    // Whatever it is that responds here, it is not Broker: a proxy while Broker restarts, or a development server.
    if (!error.type) this.#warn(`the response has the status ${error.status}, and is not Broker's. Does a proxy pass the request on?`);
    return Math.max(this.#pause.longer(this.#retry), error.wait);
  }

  #heard() {
    this.#received = [Date.now(), performance.now()];
  }

  /** For how many milliseconds nothing came. One of the clocks may be set back, and the other one stands still on some
   * devices that sleep; so the larger of the two counts, and at worst a stream is opened again without need. */
  #silence() {
    return Math.max(Date.now() - this.#received[0], performance.now() - this.#received[1]);
  }

  /** Ends a stream that has gone silent: a laptop slept, or a network has changed, and nothing reports an error. The
   * clock is asked again when the timer fires, because timers of a hidden page fire late. @param {AbortController} control */
  #watch(control) {
    const left = 2_000 * this.#heartbeat + GRACE_MS - this.#silence();
    if (left > 0) this.#watchdog = setTimeout(() => this.#watch(control), left);
    else {
      if (!this.#live) this.#warn("the stream was opened, but nothing came. Does a proxy hold the bytes back?");
      control.abort(this.#live ? undefined : SILENT);
    }
  }

  /** The status follows an interruption only after a while, so that it does not flicker. */
  #worse() {
    if (this.#worsening.length || this.status.get() === "offline") return;
    if (this.status.get() !== "live") this.status.set("connecting");
    this.#worsening = [
      setTimeout(() => this.status.get() === "live" && this.status.set("reconnecting"), RECONNECTING_MS),
      setTimeout(() => this.status.set("offline"), OFFLINE_MS),
    ];
  }

  /** @param {Status} status */
  #better(status) {
    this.#worsening.forEach(clearTimeout);
    this.#worsening = [];
    this.status.set(status);
  }

  /** One clear line for each interruption. @param {string} message @param {unknown} [error] */
  #warn(message, error) {
    if (!this.#warned) console.warn(`Broker at ${this.#url}: ${message}`, ...(error ? [error] : []));
    this.#warned = true;
  }
}
