// The connection: one stream for all that a client watches. It reconnects, resumes by id, and widens its filter.

import { Wanted, asked, brings, covers, isList } from "./filters.js";
import { read } from "./frames.js";
import { BrokerError, Pause, isExact } from "./server.js";
import { ConnectionStatus, watchPage } from "./status.js";
import { Watchdog } from "./watchdog.js";

/** @import { Options } from "./types.js" */
/** @import { Frame } from "./frames.js" */
/** @import { Server } from "./server.js" */
/** @import { Session } from "./session.js" */

const RETRY_MS = 1_000; // until the server has named its own
const RETRY_MIN_MS = 10;
const PENDING = "$pending"; // an event of the server's own, which needs a token
/** The reason for which a stream was ended that has never brought anything. */
const SILENT = "silent";

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
 * @property {(filters: readonly string[], error: BrokerError) => void} denied  the whole stream is refused */

export class Connection {
  status = new ConnectionStatus();
  /** The id up to which everything was received; it belongs to a filter, a user, and a server. */
  position = "";

  // For as long as the client lives.
  #server;
  #tokens;
  #listener;
  #log;
  #closed = false;
  #looping = false;
  #wanted = new Wanted(() => this.#changed());
  /** The filters whose state is complete up to the position. @type {readonly string[]} */
  #established = [];
  #retry = RETRY_MS;
  #pause = new Pause();
  #watchdog = new Watchdog();
  #warned = false;
  #met = false; // whether a stream was ever ready
  #hidden = false; // the page is kept for the back button
  #unlisten;

  // For one attempt.
  #control = new AbortController();
  /** @type {readonly string[]} */
  #filters = [];
  #live = false;

  /** @param {Server} server @param {Session} tokens @param {Listener} listener @param {Options["log"]} log */
  constructor(server, tokens, listener, log) {
    this.#server = server;
    this.#tokens = tokens;
    this.#listener = listener;
    this.#log = log;
    this.#unlisten = watchPage(
      () => this.wake(),
      () => {
        // A page that the browser keeps for the back button must not hold a connection.
        this.#hidden = true;
        this.#control.abort();
      },
    );
  }

  /** Watches a filter until the function that it returns is called. @param {string} filter @returns {() => void} */
  want(filter) {
    return this.#wanted.add(filter);
  }

  /** Whether the state of this event is complete. @param {string} name */
  complete(name) {
    return brings(this.#established, name);
  }

  /** Whether somebody watches this event. @param {string} name */
  watches(name) {
    return this.#wanted.has(name);
  }

  /** Begins with a state that is there already. @param {string} id @param {readonly string[]} filters */
  resume(id, filters) {
    this.position = id;
    this.#established = filters;
  }

  /** Opens the stream again, with another token. @param {{forget: boolean}} options  `forget`: it is another user's */
  restart({ forget }) {
    if (forget) {
      this.position = "";
      this.#established = [];
    }
    this.#pause.failures = 0;
    this.#again();
  }

  /** The device has woken up, or has a network again, or the page is shown again: a hint that is worth a look. */
  wake() {
    this.#hidden = false;
    if (this.#watchdog.suspects) this.#control.abort();
    this.#pause.forgive();
  }

  close() {
    this.#closed = true;
    this.#again();
    this.status.better("idle");
    this.#watchdog.stop();
    this.#wanted.close();
    this.#unlisten();
  }

  /** Ends the attempt or the pause that is under way, and so begins the next one. */
  #again() {
    this.#control.abort();
    this.#pause.end();
  }

  /** What is watched has changed. */
  #changed() {
    const { all } = this.#wanted;
    if (!this.#looping) this.#loop();
    // While a stream is open, or about to be opened, that has all filters, there is nothing to do.
    else if (!all.length || !all.every((each) => covers(this.#filters, each))) this.#again();
  }

  async #loop() {
    this.#looping = true;
    while (!this.#closed) {
      this.#pause.begin();
      const wait = this.#hidden ? Infinity : await this.#attempt();
      if (wait > 0 && !this.#closed) await this.#pause.wait(wait);
    }
  }

  /** Opens one stream and reads it to its end. Returns after how many milliseconds to open the next one; Infinity if
   * only a change of what is wanted, or of the user, can help. */
  async #attempt() {
    /** @type {AbortController | undefined} */
    let control;
    /** @type {string | null} */
    let token = null;
    if (this.#idle("")) return Infinity;
    this.#watchdog.heard();
    this.status.worse();
    try {
      token = await this.#tokens.fresh();
      if (this.#closed || this.#hidden) return 0;
      // What has changed meanwhile is part of this attempt.
      this.#pause.begin();
      control = this.#control = new AbortController();
      return await this.#open(control, token);
    } catch (error) {
      if (control?.signal.reason === SILENT) return this.#pause.longer(this.#retry);
      if (this.#closed || control?.signal.aborted) return 0;
      if (error instanceof BrokerError && error.status) return this.#refused(error, token);
      // A restart of the server is no reason for a message, but what goes wrong at first is, and what goes on.
      if (!this.#met || this.#pause.failures) this.#warn("the server cannot be reached. Is it running? Is the origin of this page allowed (--origin)?", error);
      return this.#pause.longer(this.#retry);
    } finally {
      this.#watchdog.stop();
      control?.abort();
      this.#live = false;
    }
  }

  /** Whether nobody watches anything. @param {string | null} token */
  #idle(token) {
    this.#filters = this.#wanted.all;
    if (this.#filters.some((each) => token !== null || each !== PENDING)) return false;
    this.status.better("idle");
    return true;
  }

  /** @param {AbortController} control @param {string | null} token */
  async #open(control, token) {
    if (this.#idle(token)) return Infinity;
    const filters = this.#filters;
    const event = filters.filter((each) => token || each !== PENDING);
    // What is not wanted any more is forgotten, because it is not kept up to date from here on.
    this.#established = filters.filter((each) => covers(this.#established, each));
    const fresh = !this.#established.length;
    this.#listener.opened(filters, fresh);
    const added = event.filter((each) => !covers(this.#established, each));
    const lists = added.filter(isList);
    const first = lists.length ? await this.#listener.begin(lists) : "";
    if (control.signal.aborted) return 0;
    /** @type {Record<string, unknown>} */
    const body = { event: asked(event), frames: "record" };
    const from = fresh ? first : this.position;
    if (from) Object.assign(body, { last_event_id: from, new: added.filter((each) => !isList(each)) });
    this.#watchdog.watch(() => this.#silent(control));
    const response = await this.#server.open("POST", "events", token, JSON.stringify(body), control.signal);
    // After a redirect that has made a GET of it, a stream of everything comes.
    const media = response.headers.get("Content-Type") ?? "";
    if (!response.ok || response.redirected || !media.startsWith("text/event-stream"))
      throw await BrokerError.of(response);
    await read(response, control.signal, {
      heard: () => this.#watchdog.heard(),
      frame: (frame) => this.#take(frame, filters, control, token),
      retry: (milliseconds) => (this.#retry = milliseconds >= 0 ? Math.max(milliseconds, RETRY_MIN_MS) : RETRY_MS),
    });
    // A full or a stopping server ends a stream at once, and has named a time to come back.
    return control.signal.aborted ? 0 : this.#retry;
  }

  /** @param {Frame} frame @param {readonly string[]} filters @param {AbortController} control
   * @param {string | null} token */
  #take({ id, event, data }, filters, control, token) {
    this.#log?.debug("Broker", id, event ?? "", data ?? "");
    const value = data === undefined ? undefined : JSON.parse(data);
    if (event === "$reset") this.#established = [];
    if (event === "$ready") this.#established = filters;
    // An id has a meaning only where the state is complete up to it, and a stream may end in the midst of the state.
    if (!this.#established.length) this.position = "";
    else if (id) this.position = id;
    if (event === undefined && value) this.#listener.record(value, isExact(/** @type {string} */ (data)));
    else if (event === PENDING) this.#listener.pending();
    else if (event === "$reset") {
      this.#listener.reset(value.reason);
      if (filters.some(isList)) control.abort(); // the server would send the whole of a long list now
    } else if (event === "$skipped") this.#listener.skipped();
    else if (event === "$login") this.#tokens.reject(token);
    else if (event === "$ready") {
      if (value.heartbeat > 0) this.#watchdog.heartbeat = value.heartbeat;
      this.#pause.failures = 0;
      this.#live = this.#met = true;
      this.#warned = false;
      this.status.better("live");
      this.#listener.ready(filters, value.denied ?? [], value.time);
    }
    if (id) this.#listener.moved();
  }

  /** @param {BrokerError} error @param {string | null} token */
  #refused(error, token) {
    if (error.type && error.status === 401 && this.#tokens.reject(token)) return 0;
    if (error.type && [400, 401, 403].includes(error.status)) {
      if (error.status === 400) this.#warn(error.message);
      this.status.better("denied");
      this.#listener.denied(this.#filters, error);
      return Infinity;
    }
    // Whatever it is that responds here, it is not Broker: a proxy while Broker restarts, or a development server.
    if (!error.type) this.#warn(`the response has the status ${error.status}, and is not Broker's. Does a proxy pass the request on?`);
    return Math.max(this.#pause.longer(this.#retry), error.wait);
  }

  /** @param {AbortController} control */
  #silent(control) {
    if (!this.#live) this.#warn("the stream was opened, but nothing came. Does a proxy hold the bytes back?");
    control.abort(this.#live ? undefined : SILENT);
  }

  /** One clear line for each interruption. @param {string} message @param {unknown} [error] */
  #warn(message, error) {
    if (!this.#warned) console.warn(`Broker at ${this.#server.url}: ${message}`, ...(error ? [error] : []));
    this.#warned = true;
  }
}
