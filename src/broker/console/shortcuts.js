// The list of all shortcuts, also of those of other screens.

import { show } from "./dialog.js";
import { h } from "./h.js";

/** @import { Command } from "./types.js" */

const SHORTCUTS_MAC = /Mac|iPhone|iPad/.test(navigator.platform);

/** Their names, and their keys: what is separated by a space follows each other, and `|` is between two that one may
 * choose. @type {[string, [string, string][]][]} */
const SHORTCUT_GROUPS = [
  ["Everywhere", [
    ["Search, and run a command", "Ctrl K"], ["Show all shortcuts", "?"], ["Events", "g e"], ["Schedule", "g s"],
    ["Inspector", "g i"], ["New event", "n"], ["Search what is shown, or everything", "/"],
  ]],
  ["Table of events", [
    ["From the search to the table", "↓"], ["Choose a row", "↑|↓"], ["A page up or down", "Page Up|Page Down"],
    ["The first or the last row", "Home|End"], ["Open the event", "Enter"], ["Close or open a group", "←|→"],
  ]],
  ["Editor of an event", [["Insert", "Ctrl S"], ["Leave the field of the value", "Esc Tab"]]],
  ["Inspector", [
    ["Pause or resume the frames", "p"], ["Send a test event", "t"], ["Choose a frame", "↑|↓"], ["Show the whole frame", "Enter"],
  ]],
];

/** Keys as they are on this computer. @param {string | undefined} keys */
export function keysOf(keys) {
  if (!keys) return null;
  const key = (/** @type {string} */ text) => h("kbd", null, text === "Ctrl" && SHORTCUTS_MAC ? "⌘" : text);
  // The name of a key may have a space, too.
  const choices = keys.split("|");
  return h("span", { class: "palette-keys" }, choices.length > 1
    ? choices.flatMap((each, index) => [index > 0 && h("span", { class: "muted" }, "or"), key(each)])
    : keys.split(" ").map(key));
}

/** @param {Command[]} commands  of the screen; what is not in the list is shown as well */
export function showShortcuts(commands) {
  const known = new Set(SHORTCUT_GROUPS.flatMap(([, rows]) => rows.map(([, keys]) => keys)));
  const others = commands.flatMap(({ name, keys }) => (keys && !known.has(keys) ? [/** @type {[string, string]} */ ([name, keys])] : []));
  /** @type {typeof SHORTCUT_GROUPS} */
  const groups = others.length ? [...SHORTCUT_GROUPS, ["This screen", others]] : SHORTCUT_GROUPS;
  return show(h("dialog", { class: "palette-shortcuts", "aria-labelledby": "palette-shortcuts" },
    h("form", { method: "dialog" },
      h("h2", { id: "palette-shortcuts" }, "Shortcuts"),
      h("div", { class: "palette-groups" }, groups.map(([title, rows]) => h("section", null, h("h3", null, title),
        h("dl", null, rows.map(([name, keys]) => h("div", null, h("dt", null, name), h("dd", null, keysOf(keys)))))))),
      h("p", { class: "muted" }, "Letters and signs alone count outside of fields; arrows, Enter and Esc count where the focus is. " +
        `Keys are pressed one after the other, and only ${SHORTCUTS_MAC ? "⌘" : "Ctrl"} is held.`),
      h("div", { class: "actions" }, h("button", { autofocus: true }, "Close")))));
}
