// The stream of a screen: it brings the frames as they come, reconnects, and resumes by the last id.
//
// The client keeps values; a screen such as the inspector shows the frames themselves, and the table keeps only the
// rows that it shows. So both of them need a stream of their own.

import { read } from "../js/frames.js";
import { Pause } from "../js/server.js";
import { watchPage } from "../js/status.js";
import { Watchdog } from "../js/watchdog.js";
import { ProblemError, problemOf } from "./api.js";

/** @import { Context } from "./types.js" */

/** `connecting`: an attempt is under way. `live`: the state is complete, and what follows is live. `waiting`: until the
 * next attempt. `denied`: the server refuses the stream, and there is no further attempt.
 * @typedef {"connecting" | "live" | "waiting" | "denied"} StreamState */

/** A frame as it came: without `event` it is a record (with `frames=record`), without `data` it only moves the id.
 * @typedef {object} StreamFrame
 * @property {string} [id]
 * @property {string} [event]
 * @property {string} [data]  the text as it was sent
 * @property {number} time  when it came, in milliseconds by the server's clock
 * @property {number} bytes  its length on the line */

const STREAM_RETRY_MS = 1_000; // until the server has named its own

/** Opens a stream, and keeps it open until the screen is left, or until the function that it returns is called. After
 * `denied` it is closed, because another attempt would not help.
 *
 * @param {Pick<Context, "broker" | "signal" | "renew">} ctx
 * @param {{query?: Record<string, string | readonly string[]>, lastEventId?: string,
 *   frame: (frame: StreamFrame) => void, state: (state: StreamState, error?: Error, id?: string) => void,
 *   line?: (line: string) => void}} options  `query`: the parameters of `POST /events` (docs/http.md); `error`: why the
 *   state is `waiting` or `denied`; `id`: from where a stream that is `connecting` resumes; `line`: is given the lines
 *   that belong to no frame, which are heartbeats and `retry`
 * @returns {() => void} */
export function openStream(ctx, { query = {}, lastEventId = "", frame, state, line = () => {} }) {
  const stream = new ScreenStream(ctx, query, lastEventId, frame, state, line);
  ctx.signal.addEventListener("abort", stream.close, { once: true });
  if (ctx.signal.aborted) stream.close();
  else void stream.run();
  return stream.close;
}

class ScreenStream {
  // For as long as the stream is wanted.
  #broker;
  #renew;
  #query;
  #frame;
  #state;
  #line;
  #closed = false;
  #hidden = false; // the page is kept for the back button
  #retry = STREAM_RETRY_MS;
  #pause = new Pause();
  #watchdog = new Watchdog();
  #unlisten;
  #id;
  /** A token that the server has refused. @type {string | null | undefined} */
  #refused;

  // For one attempt.
  #control = new AbortController();
  /** @type {string | null} */
  #token = null;
  #complete = false; // whether everything up to the last id was received, so that the stream can resume from it

  /** @param {Pick<Context, "broker" | "renew">} ctx @param {Record<string, string | readonly string[]>} query @param {string} id
   * @param {(frame: StreamFrame) => void} frame @param {(state: StreamState, error?: Error, id?: string) => void} state
   * @param {(line: string) => void} line */
  constructor({ broker, renew }, query, id, frame, state, line) {
    this.#broker = broker;
    this.#renew = renew;
    this.#query = query;
    this.#id = id;
    this.#frame = frame;
    this.#state = state;
    this.#line = line;
    this.#unlisten = watchPage(
      () => this.#wake(),
      () => {
        this.#hidden = true;
        this.#control.abort();
      },
    );
  }

  close = () => {
    this.#closed = true;
    this.#control.abort();
    this.#pause.end();
    this.#watchdog.stop();
    this.#unlisten();
  };

  #wake() {
    this.#hidden = false;
    if (this.#watchdog.suspects) this.#control.abort();
    this.#pause.forgive();
  }

  async run() {
    while (!this.#closed) {
      this.#pause.begin();
      const wait = this.#hidden ? Infinity : await this.#attempt();
      if (wait > 0 && !this.#closed) await this.#pause.wait(wait);
    }
  }

  /** Opens the stream once, and reads it to its end. Returns after how many milliseconds to open it again. */
  async #attempt() {
    const control = (this.#control = new AbortController());
    this.#state("connecting", undefined, this.#id);
    this.#watchdog.heard();
    this.#watchdog.watch(() => control.abort());
    try {
      const response = await this.#open(control.signal);
      await read(response, control.signal, {
        heard: () => this.#watchdog.heard(),
        frame: (each) => this.#take(each),
        retry: (milliseconds) => {
          this.#retry = milliseconds > 0 ? milliseconds : STREAM_RETRY_MS;
          this.#line(`retry: ${milliseconds}`);
        },
        comment: () => this.#line(":"),
      });
      return this.#wait(this.#retry);
    } catch (error) {
      if (this.#closed) return 0;
      return this.#failed(/** @type {Error} */ (error));
    } finally {
      this.#watchdog.stop();
      control.abort();
    }
  }

  /** @param {AbortSignal} signal */
  async #open(signal) {
    const token = (this.#token = await this.#broker.token(this.#refused));
    signal.throwIfAborted();
    /** @type {Record<string, string>} */
    const headers = { "Content-Type": "application/json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    this.#complete = this.#id !== "";
    const body = JSON.stringify(this.#id ? { ...this.#query, last_event_id: this.#id } : this.#query);
    const response = await fetch(`${this.#broker.url}events`, { method: "POST", headers, body, signal });
    const media = response.headers.get("Content-Type") ?? "";
    if (!response.ok || !media.startsWith("text/event-stream")) throw await problemOf(response);
    return response;
  }

  /** @param {{id?: string, event?: string, data?: string}} frame */
  #take({ id, event, data }) {
    if (this.#closed) return;
    if (event === "$reset") this.#complete = false;
    // What is on the screen may not be read any more, or has been erased.
    if (event === "$reset" && ["rights", "erased"].includes(JSON.parse(data ?? "{}").reason)) return this.#renew();
    if (event === "$login") this.#refused = this.#token;
    if (event === "$ready") {
      this.#complete = true;
      this.#pause.failures = 0;
      this.#watchdog.heartbeat = JSON.parse(data ?? "{}").heartbeat || this.#watchdog.heartbeat;
      this.#state("live");
    }
    // An id of a state that has not come to its end is not worth resuming from.
    if (!this.#complete) this.#id = "";
    else if (id) this.#id = id;
    const time = this.#broker.now();
    this.#frame({
      id, event, data, time,
      // Counted only if somebody asks, because most of those who read a stream do not.
      get bytes() {
        return frameBytes(id, event, data);
      },
    });
  }

  /** @param {Error} error */
  #failed(error) {
    const { status, type } = error instanceof ProblemError ? error : { status: 0, type: "" };
    if (type && status === 401 && this.#token !== null && this.#refused !== this.#token) {
      this.#refused = this.#token;
      return 0; // perhaps there is another one
    }
    if (type && status === 400 && this.#id) {
      this.#id = ""; // without it, the stream brings the whole state
      return this.#wait(this.#pause.longer(this.#retry), error);
    }
    if (type && [400, 401, 403].includes(status)) {
      this.close();
      this.#state("denied", error);
      return 0;
    }
    return this.#wait(this.#pause.longer(this.#retry), error);
  }

  /** @param {number} milliseconds @param {Error} [error] */
  #wait(milliseconds, error) {
    if (!this.#closed) this.#state("waiting", error);
    return milliseconds;
  }
}

/** How many bytes a frame had on the line. @param {string} [id] @param {string} [event] @param {string} [data] */
function frameBytes(id, event, data) {
  const lines = [id !== undefined && `id: ${id}\n`, event !== undefined && `event: ${event}\n`, data !== undefined && `data: ${data}\n`];
  return new TextEncoder().encode(`${lines.filter(Boolean).join("")}\n`).length;
}
