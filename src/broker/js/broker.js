// The client of Broker: `createBroker` puts its parts together.

import { Connection } from "./connection.js";
import { History } from "./history.js";
import { Outbox } from "./outbox.js";
import { Schedule } from "./schedule.js";
import { BrokerError, Server } from "./server.js";
import { Session } from "./session.js";
import { listen } from "./status.js";
import { Derived } from "./store.js";
import { Validation } from "./validation.js";
import { Values } from "./values.js";
import { Writer } from "./writer.js";

/** @typedef {import("./types.js").Broker} Broker */
/** @typedef {import("./types.js").Form} Form */
/** @typedef {import("./types.js").FormOptions} FormOptions */
/** @typedef {import("./types.js").LogInOptions} LogInOptions */
/** @typedef {import("./types.js").LogOutOptions} LogOutOptions */
/** @typedef {import("./types.js").Options} Options */

export { BrokerError };

const RELOAD_MS = 1_000; // until the program of forms is asked for again

/** The state of a form before it is bound. @type {import("./types.js").FormState} */
export const NOTHING = { status: "loading", saved: true, saving: false, fields: {}, undoable: false, redoable: false, others: [] };

/** See types.d.ts. @param {string | URL} [url] @param {Options} [options] @returns {Broker} */
export function createBroker(url = globalThis.location?.origin, options = {}) {
  if (!url) throw new TypeError("createBroker needs the address of the server, such as http://localhost:8080");
  const address = new URL(url, globalThis.location?.href).href.replace(/\/?$/, "/");
  // `fetch` of a page must be called as a function of the window.
  const server = new Server(address, options.fetch ?? ((...parts) => globalThis.fetch(...parts)));
  const session = new Session(server, options, (how) => {
    values.keep = session.expired;
    if (how === "user") {
      values.forget();
      history.forget();
      // A page with a login of its own is asked for the user only when something is sent.
      if (options.token) outbox.adopt();
    }
    outbox.changed();
    // Silently with another token of the same session; otherwise, position and state belong to another reader.
    connection.restart({ forget: how !== "token" });
    if (how !== "token") schedule.reset();
  });
  /** @type {Connection} */
  const connection = new Connection(server, session, {
    opened: (filters, fresh) => values.opened(filters, fresh),
    begin: (filters) => values.begin(filters),
    record: (record, exact) => values.take(record, exact),
    reset(reason) {
      values.reset(reason);
      if (reason === "rights" || reason === "erased") schedule.reset();
    },
    skipped: () => (values.inOrder = false),
    ready(filters, denied, time) {
      session.synchronize(time);
      values.ready(filters, denied, new BrokerError("the rules do not permit you to read this event", 403, "forbidden"));
      outbox.sender.wake();
      schedule.read();
    },
    pending: () => schedule.read(),
    moved: () => outbox.settle(false),
    denied: (filters, error) => values.refused(filters, error),
  }, options.log);
  const validation = new Validation(options.validate);
  const outbox = new Outbox(server, session, connection, validation);
  /** @type {Values} */
  const values = new Values(session, connection, outbox, validation);
  const schedule = new Schedule(values);
  const history = new History();
  Object.assign(outbox, { values, schedule, history });
  const writer = (values.writer = new Writer(server, session, outbox, values, history));
  const { state } = options;
  if (state) {
    const same = session.name === (state.user?.username ?? null);
    // What was read without a user is public, so everybody may see it until the stream brings their own state.
    if (same || !state.user) values.restore(state);
    if (same) connection.resume(state.id, state.names);
  }

  /** @param {"users" | "login"} path @param {object} body @param {LogInOptions} options */
  async function enter(path, body, { adopt } = {}) {
    const user = await session.enter(path, body);
    if (adopt) outbox.adopt();
    outbox.changed();
    return user;
  }

  return /** @type {Broker} */ ({
    url: address,
    event: (/** @type {string} */ name) => values.handles.event(name),
    events: (/** @type {string} */ prefix, { deep = true, last = 0 } = {}) => values.handles.events(prefix, deep, last),
    form: (name, element, options) => formOf(values.handles.event(name), element, options),
    batch: (write) => writer.batch(write),
    status: { get: connection.status.get, subscribe: connection.status.subscribe },
    get position() {
      return connection.position;
    },
    outbox: {
      get: outbox.list.get,
      subscribe: outbox.list.subscribe,
      retry: (uuid) => outbox.retry(uuid),
      discard: (uuid) => outbox.discard(uuid),
    },
    schedule,
    user: { get: session.user.get, subscribe: session.user.subscribe },
    signUp: (username, password, { info, ...rest } = {}) => enter("users", { username, password, info }, rest),
    logIn: (username, password, rest) => enter("login", { username, password }, rest),
    async logOut(/** @type {LogOutOptions} */ { discard, keep } = {}) {
      const unsent = outbox.unsent().length;
      if (unsent && !discard && !keep)
        throw new BrokerError(`${unsent} writes are not sent yet; wait for them, or give {discard: true} or {keep: true}`);
      if (discard) outbox.clear();
      session.leave();
    },
    async token(refused = null) {
      session.reject(refused);
      return session.fresh();
    },
    now: () => session.now(),
    close() {
      connection.close();
      outbox.close();
      session.close();
      values.handles.close();
      writer.close();
      schedule.close();
    },
  });
}

/** A form. The program that binds its controls is loaded with the first one. Somebody may press Enter before it is there:
 * that never loads another page.
 * @param {import("./event.js").Event} event @param {HTMLElement} element @param {FormOptions} [options] @returns {Form} */
function formOf(event, element, options = {}) {
  /** @type {import("./forms.js").Form | undefined} */
  let form;
  const state = new Derived(() => form?.describe() ?? NOTHING);
  /** Without a network, it is tried again. @type {() => Promise<typeof import("./forms.js")>} */
  const load = () => import("./forms.js").catch(() => new Promise((again) => setTimeout(again, RELOAD_MS)).then(load));
  const loaded = load().then(({ Form }) => (form = new Form(event, element, options, () => state.change())));
  /** @param {"undo" | "redo" | "keep" | "take"} what */
  const act = (what) => async (path = "") => (await loaded).act(what, path);
  const save = async () => (await loaded).save();
  const end = listen(element, "submit", (event) => {
    if (event.target.method === "dialog") return;
    event.preventDefault();
    save();
  });
  return {
    state, save, undo: act("undo"), redo: act("redo"), keep: act("keep"), take: act("take"),
    async close() {
      end();
      (await loaded).close();
    },
  };
}
