// The addresses of the console. They stand behind `#`, so the server never sees the names of events in them.

/** @import { Route } from "./types.js" */

/** @param {string} hash @returns {Route} */
export function routeOf(hash) {
  const [path, query = ""] = split(hash.replace(/^#?\/?/, ""), "?");
  const [name = "", ...params] = path.split("/").map(decoded);
  return { name, params, query: new URLSearchParams(query) };
}

/** An event's screen; without a name, the one of a new event. @param {string} [name] @param {string} [tab] */
export function eventRoute(name, tab) {
  return `#/event${name ? `/${encodeURIComponent(name)}` : ""}${tab ? `/${tab}` : ""}`;
}

/** The screen of a new event whose name begins like this. @param {string} prefix */
export function newEventRoute(prefix) {
  return withQuery("#/event", new URLSearchParams(prefix && { name: prefix }));
}

/** The table of events. @param {{under?: string, search?: string, order?: string, at?: string}} [options] */
export function eventsRoute(options = {}) {
  return withQuery("#/events", new URLSearchParams(Object.entries(options).filter(([, value]) => value)));
}

/** @param {string} path @param {URLSearchParams} query */
export function withQuery(path, query) {
  return query.size ? `${path}?${query}` : path;
}

/** @param {string} text @param {string} separator */
function split(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody has typed it
  }
}
