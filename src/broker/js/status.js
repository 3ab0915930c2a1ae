// What a page shows about the connection, and what the browser reports about the page.

import { Cell } from "./store.js";

/** @import { Status } from "./types.js" */

const RECONNECTING_MS = 1_000; // shorter interruptions are not shown
const OFFLINE_MS = 10_000;

/** The status follows an interruption only after a while, so that it does not flicker.
 * @extends {Cell<Status>} */
export class ConnectionStatus extends Cell {
  /** @type {ReturnType<typeof setTimeout>[]} */
  #worsening = [];

  constructor() {
    super("idle");
  }

  /** An attempt begins. */
  worse() {
    if (this.#worsening.length) return;
    if (this.get() !== "live") this.set("connecting");
    this.#worsening = [
      setTimeout(() => this.get() === "live" && this.set("reconnecting"), RECONNECTING_MS),
      setTimeout(() => this.set("offline"), OFFLINE_MS),
    ];
  }

  /** @param {Status} status */
  better(status) {
    this.#worsening.forEach(clearTimeout);
    this.#worsening = [];
    this.set(status);
  }
}

/** Listens to an event of the page. Node and workers have no `document`, and React Native a `window` without
 * addEventListener. @param {any} target @param {string} kind @param {(event: any) => void} run @returns {() => void} */
export function listen(target, kind, run) {
  if (typeof target?.addEventListener !== "function") return () => {};
  target.addEventListener(kind, run);
  return () => target.removeEventListener(kind, run);
}

/** Listens to what hints that the network is back, or that the page is shown again; and to its end, or freezing.
 * @param {() => void} wake @param {() => void} hide */
export function watchPage(wake, hide) {
  const page = globalThis.document;
  const all = [
    ...["online", "pageshow"].map((kind) => listen(globalThis, kind, wake)),
    listen(globalThis, "pagehide", hide),
    listen(page, "resume", wake),
    listen(page, "visibilitychange", () => page.visibilityState === "visible" && wake()),
  ];
  return () => all.forEach((end) => end());
}
