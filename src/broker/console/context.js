// What a screen is given, and what ends with it.

import { createApi } from "./api.js";
import { routeOf, withQuery } from "./router.js";

/** @import { Broker } from "../js/types.js" */
/** @import { About, Command, Context, Route } from "./types.js" */

export class ScreenContext {
  #control = new AbortController();
  /** @type {Command[]} */
  extra = [];
  /** @type {() => boolean | Promise<boolean>} */
  mayLeave = () => true;

  /** @param {Broker} broker @param {About} about @param {Route} route
   * @param {{title: (text: string) => void, announce: (text: string) => void, moved: () => void, renew: () => void}} shell */
  constructor(broker, about, route, shell) {
    const signal = this.#control.signal;
    /** @type {Context} */
    this.context = {
      ...route,
      broker,
      about,
      signal,
      api: createApi(broker, signal),
      watch(store, run) {
        if (!signal.aborted) signal.addEventListener("abort", store.subscribe(run));
      },
      listen: (target, type, run, options) => target.addEventListener(type, run, { ...options, signal }),
      title: (text) => signal.aborted || shell.title(text),
      go(to) {
        location.hash = to;
      },
      setQuery(name, value) {
        if (signal.aborted) return;
        if (value === null) route.query.delete(name);
        else route.query.set(name, value);
        history.replaceState(null, "", withQuery(location.hash.split("?")[0], route.query));
        shell.moved();
      },
      announce: (text) => shell.announce(text),
      commands: (list) => this.extra.push(...list),
      guard: (mayLeave) => (this.mayLeave = mayLeave),
      renew: () => signal.aborted || shell.renew(),
    };
  }

  /** With its questions: they may show what the next user must not see, and nobody would carry out their answers. */
  end() {
    this.#control.abort();
    for (const dialog of document.querySelectorAll("dialog")) dialog.close("");
  }

  /** Whether an address is another one than this screen's. @param {string} hash */
  isElsewhere(hash) {
    const place = (/** @type {Route} */ { name, params, query }) => JSON.stringify([name, params, String(query)]);
    return place(routeOf(hash)) !== place(this.context);
  }
}
