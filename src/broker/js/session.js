// The session: who uses this client, and the token that says so.

import { BrokerError } from "./server.js";
import { listen } from "./status.js";
import { Cell } from "./store.js";

/** @import { Options, StorageLike, User } from "./types.js" */
/** @import { Server } from "./server.js" */

const LOOK_MS = 60_000; // between two looks at the clock: a long timer does not survive a sleep
const ANSWER_MS = 60_000; // until the page must have answered what its token is
const ASK_MS = 5_000; // until the page is asked for another token, after one was refused

/** The token; by whom; when to renew it, by the server's clock; and by how many milliseconds this is ahead of the
 * device's. A token that the page gives is renewed by the page.
 * @typedef {{jwt: string, username: string, renew: number, clock: number}} Kept */

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
  #expired = false;
  /** What the storage has, as far as this page knows. @type {string | null} */
  #text = null;
  /** @type {Promise<void> | undefined} */
  #renewing;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** How far the server's clock is ahead of the monotonic one of this page, in milliseconds. */
  #clock = Date.now() - performance.now();
  #closed = false;
  #unlisten;

  /** @param {Server} server @param {Options} options
   * @param {(how: "user" | "session" | "token") => void} changed  another user; the session of the same one has ended, or
   *   begun again; another token of the same session */
  constructor(server, { storage = "local", token, state }, changed) {
    this.#server = server;
    this.#key = `broker ${server.url}`;
    this.#token = token;
    this.#changed = changed;
    this.#storage = token === undefined ? storageOf(storage) : undefined;
    this.#text = this.#read();
    this.#kept = typeof token === "string" ? given(token) : parsed(this.#text);
    // Until the page is asked for its token, the user is the one for whom the page was rendered.
    if (typeof token === "function" && state?.user) this.#kept = { ...given(""), username: state.user.username };
    if (this.#kept) {
      this.#clock += this.#kept.clock;
      this.user.set({ username: this.#kept.username });
    }
    this.#look();
    this.#unlisten = listen(globalThis, "storage", () => this.follow());
  }

  /** @returns {string | null} */
  get name() {
    return this.#kept?.username ?? null;
  }

  get expired() {
    return this.#expired;
  }

  /** The server's clock, in milliseconds. It goes on by the monotonic clock, since the device's may be set meanwhile. */
  now() {
    return this.#clock + performance.now();
  }

  /** @param {number} seconds  the server's clock, as it was just now */
  synchronize(seconds) {
    if (seconds > 0) this.#clock = 1_000 * seconds - performance.now();
  }

  /** The token to send now, renewed if it will expire soon. @returns {Promise<string | null>} */
  async fresh() {
    if (this.#token === undefined) {
      this.follow();
      if (!this.#expired && this.#due()) await (this.#renewing ??= this.#renew());
    } else if (!this.#expired) await (this.#renewing ??= this.#ask().finally(() => (this.#renewing = undefined)));
    return this.#expired ? null : (this.#kept?.jwt ?? null);
  }

  /** The monotonic clock stands still while some devices sleep, and the other one may be wrong: so the later one counts. */
  #due() {
    return this.#kept && Math.max(this.now(), Date.now() + this.#kept.clock) > this.#kept.renew;
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
      if (this.#kept?.jwt === jwt) this.#keep(granted);
    } catch (error) {
      // Without a network, the old token is still the best there is.
      if (error instanceof BrokerError && error.type && error.status === 401) this.reject(jwt);
    } finally {
      this.#renewing = undefined;
    }
  }

  /** Asks the page for its token. Questions that are asked meanwhile get the same answer. */
  async #ask() {
    let jwt = this.#token;
    try {
      if (typeof jwt === "function") jwt = (await within(ANSWER_MS, jwt())) ?? undefined;
    } catch (error) {
      throw new BrokerError(`the page has no token: ${error}`);
    }
    if ((jwt || undefined) === this.#kept?.jwt) return;
    const kept = jwt ? given(jwt) : null;
    // Another token of the same user is for what is sent next; the stream goes on with the one that it has.
    if (kept && kept.username === this.#kept?.username && !this.#expired) this.#kept = kept;
    else this.#become(kept);
  }

  /** The server does not accept this token any more. Returns whether to try again, with another one or without.
   * @param {string | null} jwt */
  reject(jwt) {
    if (jwt === null) return false;
    this.follow();
    // Otherwise, there is another one meanwhile.
    if (this.#kept?.jwt === jwt && !this.#expired) {
      this.#expired = true;
      console.warn(`Broker: the session of ${this.#kept.username} has ended. Writes wait until this user logs in again`);
      this.#look();
      this.#changed("session");
      this.user.set({ username: this.#kept.username, expired: true });
    }
    return true;
  }

  /** @param {"users" | "login"} path @param {object} body @returns {Promise<User>} */
  async enter(path, body) {
    if (this.#token !== undefined) throw new BrokerError("createBroker was given a token, so the page has a login of its own");
    const granted = await this.#server.call(path, null, JSON.stringify(body));
    if (!granted?.jwt) throw new BrokerError("the response is not Broker's");
    this.#keep(granted);
    return /** @type {User} */ (this.user.get());
  }

  /** Ends at once on this device, and on the server when it can be told. */
  leave() {
    if (this.#token !== undefined) throw new BrokerError("createBroker was given a token, so the page has a logout of its own");
    const jwt = this.#kept?.jwt;
    this.#keep(null);
    if (jwt) this.#server.call("logout", jwt).catch(() => {});
  }

  /** @param {any} granted  what the server has responded to a login */
  #keep(granted) {
    /** @type {Kept | null} */
    let kept = null;
    if (granted) {
      this.synchronize(granted.time);
      // A third of its time is left for a device that sleeps or has no network.
      const renew = 1_000 * (granted.expires_at - (granted.expires_at - granted.time) / 3);
      kept = { jwt: granted.jwt, username: granted.username, renew, clock: this.now() - Date.now() };
    }
    try {
      if (kept) this.#storage?.setItem(this.#key, JSON.stringify(kept));
      else this.#storage?.removeItem(this.#key);
    } catch {} // full or forbidden: then the session ends with the page
    this.#text = this.#read();
    this.#become(kept);
  }

  /** Another page with the same storage has logged in or out, or has renewed the token. A page that was frozen is not
   * notified, so this looks before each request, too. */
  follow() {
    const text = this.#read();
    if (text === this.#text) return;
    this.#text = text;
    this.#become(parsed(text));
  }

  #read() {
    try {
      return this.#storage?.getItem(this.#key) ?? null;
    } catch {
      return this.#text; // a storage that is forbidden
    }
  }

  /** @param {Kept | null} kept */
  #become(kept) {
    const same = this.#kept?.username === kept?.username;
    const again = this.#expired;
    this.#kept = kept;
    this.#expired = false;
    this.#look();
    this.#changed(!same ? "user" : again ? "session" : "token");
    if (!same || again) this.user.set(kept && { username: kept.username });
  }

  #look() {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    const left = (this.#kept?.renew || Infinity) - this.now() + 1;
    const wait = this.#expired && this.#token ? ASK_MS : left > 0 && left < LOOK_MS ? left : LOOK_MS;
    this.#timer = setTimeout(async () => {
      await (this.#token ? this.#ask() : this.fresh()).catch(() => {}); // the next request reports it
      this.#look();
    }, wait);
    // A timer of Node's keeps the process alive, which is no business of this one.
    /** @type {any} */ (this.#timer).unref?.();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#unlisten();
  }
}

/** A token that the page has. The name in it shows when it is another user's. @param {string} jwt @returns {Kept} */
function given(jwt) {
  let username = "";
  try {
    username = JSON.parse(atob(jwt.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).username ?? "";
  } catch {} // it is no JSON Web Token
  return { jwt, username, renew: Infinity, clock: 0 };
}

/** @param {string | null} text @returns {Kept | null} */
function parsed(text) {
  try {
    const kept = JSON.parse(text ?? "null");
    if (typeof kept?.jwt === "string" && typeof kept.username === "string" && kept.clock < Infinity) return kept;
  } catch {} // somebody else's
  return null;
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

/** @template T @param {number} milliseconds @param {T | Promise<T>} value @returns {Promise<T>} */
function within(milliseconds, value) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no answer")), milliseconds);
    Promise.resolve(value).then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
