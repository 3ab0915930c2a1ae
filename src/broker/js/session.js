// The session: who uses this client, and the token that says so.

import { BrokerError } from "./server.js";
import { Cell } from "./store.js";

/** @import { Options, StorageLike, User } from "./types.js" */
/** @import { Server } from "./server.js" */

const LOOK_MS = 60_000; // between two looks at the clock: a long timer does not survive a sleep
/** @typedef {{jwt: string, username: string, renew: number, clock: number}} Kept
 *   the token; when to renew it, by the server's clock; and by how many milliseconds this is ahead of the device's */

export class Session {
  /** @type {Cell<User | null>} */
  user = new Cell(/** @type {User | null} */ (null));

  #server;
  #storage;
  #key;
  #token;
  #changed;
  /** @type {Kept | null} */
  #kept = null;
  /** @type {Promise<void> | undefined} */
  #renewing;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** How far the server's clock is ahead of the monotonic one of this page, in milliseconds. */
  #clock = Date.now() - performance.now();
  #closed = false;

  /** @param {Server} server @param {Options} options
   * @param {(how: "user" | "token" | "expired") => void} changed  another user; another token of the same; none any more */
  constructor(server, { storage = "local", token }, changed) {
    this.#server = server;
    this.#key = `broker ${server.url}`;
    this.#token = token;
    this.#changed = changed;
    this.#storage = token ? undefined : storageOf(storage);
    try {
      this.#kept = JSON.parse(this.#storage?.getItem(this.#key) ?? "null");
    } catch {} // somebody else's, or a storage that is forbidden
    if (this.#kept) {
      this.#clock += this.#kept.clock;
      this.user.set({ username: this.#kept.username });
      this.#look();
    }
  }

  /** @returns {string | null} */
  get name() {
    return this.user.get()?.username ?? null;
  }

  get expired() {
    return this.user.get()?.expired === true;
  }

  /** The server's clock, in milliseconds. It goes on by the monotonic clock, since the device's may be set meanwhile. */
  now() {
    return this.#clock + performance.now();
  }

  /** @param {number} seconds  the server's clock, as it was just now */
  synchronize(seconds) {
    this.#clock = 1_000 * seconds - performance.now();
  }

  /** The token to send now, renewed if it will expire soon. @returns {Promise<string | null>} */
  async fresh() {
    if (this.#token !== undefined) return typeof this.#token === "function" ? await this.#token() : this.#token;
    if (this.#kept && this.now() > this.#kept.renew) await (this.#renewing ??= this.#renew());
    return this.#kept?.jwt ?? null;
  }

  /** Reads a page of records as this user. @param {string} path */
  async read(path) {
    for (;;) {
      const token = await this.fresh();
      try {
        return await this.#server.read(path, token);
      } catch (error) {
        if (!(error instanceof BrokerError && error.type && error.status === 401 && this.reject(token))) throw error;
      }
    }
  }

  /** Reads records, one page after the other, as far as they are asked for. @param {string} path */
  async *pages(path) {
    for (let next = path; next; ) {
      const page = await this.read(next);
      yield* page.records;
      next = page.next;
    }
  }

  async #renew() {
    const { jwt } = /** @type {Kept} */ (this.#kept);
    try {
      const granted = await this.#server.call("token", jwt);
      if (this.#kept?.jwt === jwt) {
        this.#keep(granted);
        this.#changed("token");
      }
    } catch (error) {
      // Without a network, the old token is still the best there is.
      if (error instanceof BrokerError && error.type && error.status === 401) this.reject(jwt);
    } finally {
      this.#renewing = undefined;
    }
  }

  /** The server does not accept this token any more. Returns whether to try again, with another one or without.
   * @param {string | null} jwt */
  reject(jwt) {
    if (jwt === null || this.#token !== undefined) return false;
    if (this.#kept?.jwt !== jwt) return true; // there is another one meanwhile
    const { username } = this.#kept;
    this.#keep(null);
    this.user.set({ username, expired: true });
    this.#changed("expired");
    return true;
  }

  /** @param {"users" | "login"} path @param {object} body @returns {Promise<User>} */
  async enter(path, body) {
    if (this.#token !== undefined) throw new BrokerError("createBroker was given a token, so the page has a login of its own");
    const granted = await this.#server.call(path, null, JSON.stringify(body));
    const before = this.name;
    this.#keep(granted);
    const user = { username: granted.username };
    this.user.set(user);
    this.#changed(before === user.username ? "token" : "user");
    return user;
  }

  /** Ends at once on this device, and on the server when it can be told. */
  leave() {
    const jwt = this.#kept?.jwt;
    this.#keep(null);
    this.user.set(null);
    this.#changed("user");
    if (jwt) this.#server.call("logout", jwt).catch(() => {});
  }

  /** @param {any} granted  what the server has responded to a login */
  #keep(granted) {
    clearTimeout(this.#timer);
    this.#kept = null;
    if (granted) {
      this.synchronize(granted.time);
      // A third of its time is left for a device that sleeps or has no network.
      const renew = 1_000 * (granted.expires_at - (granted.expires_at - granted.time) / 3);
      this.#kept = { jwt: granted.jwt, username: granted.username, renew, clock: this.now() - Date.now() };
      this.#look();
    }
    try {
      if (this.#kept) this.#storage?.setItem(this.#key, JSON.stringify(this.#kept));
      else this.#storage?.removeItem(this.#key);
    } catch {} // full or forbidden: then the session ends with the page
  }

  #look() {
    if (this.#closed) return;
    this.#timer = setTimeout(async () => {
      await this.fresh();
      if (this.#kept) this.#look();
    }, Math.max(0, Math.min(LOOK_MS, /** @type {Kept} */ (this.#kept).renew - this.now() + 1)));
    // A timer of Node's keeps the process alive, which is no business of this one.
    /** @type {any} */ (this.#timer).unref?.();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }
}

/** @param {NonNullable<Options["storage"]>} choice @returns {StorageLike | undefined} */
function storageOf(choice) {
  if (typeof choice === "object") return choice;
  try {
    if (choice === "local") return globalThis.localStorage;
    if (choice === "session") return globalThis.sessionStorage;
  } catch {} // a page may be forbidden to look at it
  return undefined;
}
