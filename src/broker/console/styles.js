// The style sheets of the screens that are loaded when they are opened.

import { h } from "./h.js";

/** @type {Map<string, Promise<unknown>>} */
const sheets = new Map();

/** Waits for a module and for its style sheets, which the server joins to one, so that nothing is shown without its
 * style. @template Module @param {string} name @param {Promise<Module>} module @returns {Promise<Module>} */
export async function styled(name, module) {
  if (!sheets.has(name)) sheets.set(name, new Promise((done) => document.head.append(sheet(name, done))));
  const [loaded] = await Promise.all([module, sheets.get(name)]);
  return loaded;
}

/** @param {string} name @param {(event: Event) => void} done  without its style, a screen is better than none */
function sheet(name, done) {
  const { href } = new URL(`${name}.css`, import.meta.url);
  return h("link", { rel: "stylesheet", href, onload: done, onerror: done });
}
