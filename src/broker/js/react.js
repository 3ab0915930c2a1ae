"use client";
// Broker in React 18 and 19: a component watches what it shows, for as long as it is on the page.

import React from "react";
import { NOTHING, createBroker } from "./broker.js";

/** @import { Broker, Preloaded } from "./types.js" */
/** @typedef {readonly [broker: Broker, first: Broker]} Clients
 *   that of the page; and one that shows what the server has rendered, which the page must begin with */
/** @typedef {(broker: Broker) => any} Pick  returns a store of a client */

/** Two copies of this package in one page, and a copy that was loaded anew while somebody edits, share the context and the
 * client of each address. Contexts of two versions of React are of different kinds.
 * @type {{Context: React.Context<Clients | null>, alone?: Clients, [url: string]: any}} */
const shared = (/** @type {any} */ (globalThis)[Symbol.for(`zerocode-broker ${React.version}`)] ??= { Context: React.createContext(null) });

const onPage = typeof window !== "undefined";

/** @type {any[]} */
const none = [];
/** @type {any} */
const nothing = { get() {}, subscribe: () => () => {} };
nothing.state = nothing;
const idle = () => {};
const unbound = { state: { ...nothing, get: () => NOTHING }, save: async () => {}, undo: idle, redo: idle, keep: idle, take: idle, close: idle };
const empty = { ...nothing, get: () => none };

/** Makes clients, and opens nothing.
 * @param {Broker} [broker] @param {Preloaded} [state] @param {any} [url] @returns {Clients} */
function clientsOf(broker, state, url) {
  const first = createBroker("http://localhost", { storage: "memory", state: state && { ...state, user: null } });
  first.close(); // so it shows the same forever
  const user = state?.user ?? null;
  Object.assign(first.user, { get: () => user });
  return [broker ?? (onPage ? (shared[url] ??= createBroker(url, { state })) : first), first];
}

const useClients = () => React.useContext(shared.Context) ?? (shared.alone ??= clientsOf());

/** @param {Pick} pick @param {Pick} [before]  the same store, as the server has rendered it */
function useValue(pick, before = pick) {
  const [broker, first] = useClients();
  const { subscribe, get } = pick(broker);
  return React.useSyncExternalStore(subscribe, get, before(first).get);
}

/** @param {any} handle @returns {Pick} */
const same = (handle) => (client) =>
  handle.name ? client.event(handle.name) : handle.prefix == null ? handle : client.events(handle.prefix, handle);

/** @param {{broker?: Broker, state?: Preloaded, url?: string, children?: React.ReactNode}} options */
export function BrokerProvider({ broker, state, url, children }) {
  const value = React.useMemo(() => clientsOf(broker, state, url), [broker, state, url]);
  return React.createElement(shared.Context.Provider, { value, children });
}

export const useBroker = () => useClients()[0];

export const useStatus = () => useValue((client) => client.status);

export const useUser = () => useValue((client) => client.user);

/** @param {any} store */
export const useStore = (store) => useValue(() => store, same(store));

/** @param {string | null} name @returns {Pick} */
const named = (name) => (client) => (name == null ? nothing : client.event(name));

/** @param {string | null} name @param {any} [fallback] */
export const useEvent = (name, fallback) => useValue(named(name)) ?? fallback;

/** @param {string | null} name */
export const useEventState = (name) => useValue((client) => named(name)(client).state);

/** @param {string | null} prefix @param {any} [options] */
export function useEvents(prefix, options = {}) {
  const [broker, first] = useClients();
  const { sort, limit, deep, last } = options;
  const [list, old, collection] = React.useMemo(() => {
    if (prefix == null) return [empty, empty, null];
    const handle = broker.events(prefix, options);
    return [handle.list(options), same(handle)(first).list(options), handle];
  }, [broker, first, prefix, sort, limit, deep, last]);
  return [useValue(() => list, () => old), collection];
}

export const useSchedule = (prefix = "") =>
  useValue((client) => client.schedule, () => empty).filter((/** @type {any} */ each) => each.event.startsWith(prefix));

/** The handles that have been loaded. @type {WeakSet<object>} */
const loaded = new WeakSet();

/** React waits for a promise that is thrown, in 18 as in 19. @param {any} handle */
export function useReady(handle) {
  const value = useStore(handle);
  const { status, error } = useValue(() => handle.state, (client) => same(handle)(client).state);
  const note = () => loaded.add(handle);
  if (status === "denied") throw error;
  // Only the first load waits: later, a change of the user must not hide the page.
  if (status !== "loading") note();
  else if (!onPage) throw new Error(`${handle.filter} is not preloaded`);
  else if (!loaded.has(handle)) throw handle.ready.then(note, note);
  return value;
}

/** @param {string | null} name @param {import("./types.js").FormOptions} [options] */
export function useEventForm(name, { save, idle, others } = {}) {
  const broker = useBroker();
  const [element, ref] = React.useState(/** @type {any} */ (null));
  const [form, setForm] = React.useState(/** @type {any} */ (unbound));
  React.useEffect(() => {
    if (!element?.isConnected || name == null) return; // with another key, the element of the name before is still here
    const made = broker.form(name, element, { save, idle, others });
    setForm(made);
    return () => {
      setForm(unbound);
      made.close();
    };
  }, [broker, element, name, save, idle, others]);
  const state = useStore(form.state);
  return { ref, field: (/** @type {string} */ path) => state.fields[path] ?? {}, ...form, ...state };
}

/** @param {{children?: React.ReactNode}} options */
export const SignedIn = ({ children }) => (useUser() ? children : null);

/** @param {{children?: React.ReactNode}} options */
export function SignedOut({ children }) {
  const user = useUser();
  return user && !user.expired ? null : children;
}
