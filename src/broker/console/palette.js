// The palette: all commands, and all events, by some letters of their names. It has the shortcuts, too.

import { createApi } from "./api.js";
import { copy } from "./copy.js";
import { show, toast } from "./dialog.js";
import { fuzzy } from "./fuzzy.js";
import { h, replace } from "./h.js";
import { marked } from "./marked.js";
import { eventRoute } from "./router.js";
import { keysOf, showShortcuts } from "./shortcuts.js";

/** @import { Command, Context } from "./types.js" */

/** What can be chosen. `at`: the letters that were found in a command; `text`: what was looked for in
 * the name of an event. @typedef {{name: string, keys?: string, at: number[], text?: string, isEvent: boolean, run: () => unknown}} Choice */

const PALETTE_EVENTS = 8;
const PALETTE_WAIT_MS = 120; // until the server is asked for events, so that not every key is a request
const PALETTE_KEY_MS = 1_500; // between the two keys of a shortcut

/** @param {Context} ctx @param {Command[]} commands */
export function openPalette(ctx, commands) {
  if (document.querySelector("dialog[open]")) return;
  const palette = new Palette(ctx, [...commands, ...paletteCommands(ctx, commands)]);
  show(palette.dialog).then(() => palette.end());
}

/** Commands that every screen has. @param {Context} ctx @param {Command[]} commands @returns {Command[]} */
function paletteCommands(ctx, commands) {
  const copied = async (/** @type {string} */ text, /** @type {string} */ what) => (await copy(text)) && toast(`${what} is copied.`);
  const token = async () => copied(`-H 'Authorization: Bearer ${await ctx.broker.token()}'`, "The header with your token");
  return [
    { name: "Copy the address of this screen", run: () => copied(location.href, "The address") },
    ...(ctx.broker.user.get() ? [{ name: "Copy my token as a header for curl", run: token }] : []),
    { name: "Show all shortcuts", keys: "?", run: () => showShortcuts(commands) },
  ];
}

class Palette {
  #ctx;
  #commands;
  /** @type {Choice[]} */
  #choices = [];
  #chosen = 0;
  #control = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #list = h("ul", { id: "palette-list", class: "palette-list", role: "listbox", "aria-label": "Commands and events" });
  #note = h("p", { class: "palette-note muted", role: "status" });
  #input = h("input", {
    class: "palette-input", role: "combobox", "aria-expanded": "true", "aria-controls": "palette-list", "aria-autocomplete": "list",
    "aria-label": "Search commands and events", placeholder: "Search commands and events", autocomplete: "off", spellcheck: false,
    autocapitalize: "none", oninput: () => this.#search(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#press(event),
  });

  /** @param {Context} ctx @param {Command[]} commands */
  constructor(ctx, commands) {
    this.#ctx = ctx;
    this.#commands = commands;
    this.dialog = h("dialog", {
      class: "palette", "aria-label": "Commands",
      // A click beside the dialog is one on the dialog itself.
      onclick: (/** @type {Event} */ event) => {
        if (event.target === this.dialog) this.dialog.close();
      },
    }, h("div", { class: "palette-body" }, this.#input, this.#list, this.#note));
    this.#search();
  }

  end() {
    this.#control.abort();
    clearTimeout(this.#timer);
  }

  #search() {
    const text = this.#input.value.trim();
    this.#control.abort();
    this.#control = new AbortController();
    clearTimeout(this.#timer);
    this.#chosen = 0;
    this.#choices = paletteMatches(this.#commands, text);
    this.#show();
    this.#note.textContent = text && !this.#choices.length ? "Searching events …" : "";
    if (text) this.#timer = setTimeout(() => this.#find(text, this.#control.signal), PALETTE_WAIT_MS);
  }

  /** @param {string} text @param {AbortSignal} signal */
  async #find(text, signal) {
    let names;
    try {
      // Not a request of the screen: that may change while the palette is open.
      const response = await createApi(this.#ctx.broker, signal).get(`snapshot?search=${encodeURIComponent(text)}&limit=${PALETTE_EVENTS}&data=no`);
      names = (await response.json()).map((/** @type {any} */ record) => record.event);
    } catch (error) {
      if (!signal.aborted) this.#note.textContent = `Events cannot be searched: ${error instanceof Error ? error.message : error}`;
      return;
    }
    if (signal.aborted) return;
    // They come behind the commands, so what is chosen already stays where it is.
    this.#choices.push(...names.map((/** @type {string} */ name) => (
      { name, at: [], text: text.toLowerCase(), isEvent: true, run: () => this.#ctx.go(`${eventRoute(name)}?focus=editor`) })));
    this.#show();
    this.#note.textContent = this.#choices.length ? "" : "No command and no event has this in its name.";
  }

  #show() {
    const first = this.#choices.findIndex((each) => each.isEvent);
    replace(this.#list, ...this.#choices.flatMap((choice, index) => [
      index === first && h("li", { class: "palette-heading", role: "presentation" }, "Events"),
      h("li", {
        id: `palette-${index}`, class: "palette-choice", role: "option", onclick: () => this.#run(choice),
        onmousemove: () => this.#choose(index),
      }, h("bdi", { class: choice.isEvent ? "palette-name mono" : "palette-name" }, paletteMarked(choice)), keysOf(choice.keys)),
    ]));
    this.#choose(this.#chosen);
  }

  /** @param {number} index */
  #choose(index) {
    this.#chosen = index;
    for (const option of this.#list.querySelectorAll('[role="option"]')) {
      const isChosen = option.id === `palette-${index}`;
      option.setAttribute("aria-selected", String(isChosen));
      if (isChosen) option.scrollIntoView({ block: "nearest" });
    }
    if (this.#choices.length) this.#input.setAttribute("aria-activedescendant", `palette-${index}`);
    else this.#input.removeAttribute("aria-activedescendant");
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const { length } = this.#choices;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.isComposing || (!step && event.key !== "Enter")) return;
    event.preventDefault();
    if (step && length) this.#choose((this.#chosen + step + length) % length);
    else if (!step && length) this.#run(this.#choices[this.#chosen]);
  }

  /** @param {Choice} choice */
  #run(choice) {
    // The focus is back where it was before the command moves it.
    this.dialog.addEventListener("close", () => queueMicrotask(() => choice.run()), { once: true });
    this.dialog.close();
  }
}

/** The commands that have these letters, the best first. @param {Command[]} commands @param {string} text @returns {Choice[]} */
function paletteMatches(commands, text) {
  if (!text) return commands.map((each) => ({ ...each, at: [], isEvent: false }));
  const scored = commands.flatMap((each) => {
    const match = fuzzy(text, each.name);
    return match ? [{ score: match.score, choice: { ...each, at: match.at, isEvent: false } }] : [];
  });
  return scored.sort((a, b) => b.score - a.score).map((each) => each.choice);
}

/** The name, with the letters that were found. @param {Choice} choice */
function paletteMarked({ name, at, text }) {
  if (text) return marked(name, [text]);
  if (!at.length) return [name];
  const found = new Set(at);
  return [...name].map((letter, index) => (found.has(index) ? h("mark", null, letter) : letter));
}

/** The first key of a shortcut that has two, and when it was pressed. */
let paletteFirst = { key: "", time: 0 };

/** A key was pressed outside of fields. @param {string} key @param {Context} ctx @param {Command[]} commands */
export function press(key, ctx, commands) {
  if (document.querySelector("dialog[open]")) return;
  const { key: first, time } = paletteFirst;
  const keys = first && performance.now() - time < PALETTE_KEY_MS ? `${first} ${key}` : key;
  // Those of a screen come last, and may use a key in another way.
  const command = commands.findLast((each) => each.keys === keys);
  const isFirst = keys === key && commands.some((each) => each.keys?.startsWith(`${key} `));
  paletteFirst = { key: isFirst ? key : "", time: performance.now() };
  if (command) command.run();
  else if (key === "?") showShortcuts(commands);
  else if (key === "/") openPalette(ctx, commands);
}
