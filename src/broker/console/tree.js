// The tree of names by their slashes. The groups of a prefix are found by skipping over each of them, so a group with
// 100,000 names costs one request.

import { routed } from "./events.js";
import { h, replace } from "./h.js";
import { eventsRoute } from "./router.js";
import { compareNames } from "./row.js";
import { readRows } from "./snapshot.js";

/** @import { Context } from "./types.js" */

const TREE_GROUPS = 50; // that are read at once
const TREE_REQUESTS = 12; // for them
const TREE_LIVE_MAX = 200; // groups of a group to which new ones are added by themselves
const TREE_LAST = "\u{10ffff}"; // behind every name of a group

/** A group of names: those that begin with its prefix.
 * @typedef {object} Group
 * @property {string} prefix
 * @property {Group | null} parent
 * @property {Group[]} groups
 * @property {boolean} open
 * @property {string | null} after  behind which name there may be more groups; null: there are none
 * @property {Group} [more]  the item that stands for the groups that were not read yet
 * @property {boolean} [isMore]  whether it is such an item */

/** @param {string} prefix @param {Group | null} parent @returns {Group} */
const newGroup = (prefix, parent) => ({ prefix, parent, groups: [], open: false, after: prefix });

/** Finds the next groups of a prefix.
 * @param {string} prefix @param {string} after @param {(after: string, limit: number) => Promise<{names: string[], more: boolean}>} read
 * @returns {Promise<{prefixes: string[], after: string | null}>} */
export async function findGroups(prefix, after, read) {
  const prefixes = [];
  let limit = 20; // most names are skipped, unless there is no group
  for (let request = 0; request < TREE_REQUESTS; request++) {
    const { names, more } = await read(after, limit);
    const before = prefixes.length;
    for (const name of names) {
      if (compareNames(name, after) <= 0) continue;
      const slash = name.indexOf("/", prefix.length);
      if (slash < 0) after = name;
      else {
        prefixes.push(name.slice(0, slash + 1));
        after = name.slice(0, slash + 1) + TREE_LAST;
      }
    }
    if (!more) return { prefixes, after: null };
    if (prefixes.length >= TREE_GROUPS) break;
    if (prefixes.length === before) limit = Math.min(5 * limit, 1_000);
  }
  return { prefixes, after };
}

export class NameTree {
  #ctx;
  #under;
  /** @type {Group} */
  #root = newGroup("", null);
  /** The group that the keyboard has chosen. @type {Group} */
  #active;
  #list = h("div", { class: "tree-list", role: "tree", tabindex: "0", "aria-label": "Groups of names" });
  #frame = 0;
  /** @type {Map<Group, HTMLElement>} */
  #items = new Map();

  /** @param {Context} ctx @param {string} under  the prefix that the table shows */
  constructor(ctx, under) {
    this.#ctx = ctx;
    this.#under = under;
    this.#active = this.#root;
    this.element = this.#list;
    ctx.listen(this.#list, "keydown", (event) => this.#press(event));
    void this.#begin();
  }

  /** Opens the way to the prefix of the table. */
  async #begin() {
    let group = this.#root;
    await this.#open(group);
    for (let slash = -1; (slash = this.#under.indexOf("/", slash + 1)) >= 0; ) {
      const prefix = this.#under.slice(0, slash + 1);
      const parent = group;
      const found = parent.groups.find((each) => each.prefix === prefix);
      group = found ?? newGroup(prefix, parent);
      if (!found) parent.groups.unshift(group); // it is not among the first ones
      await this.#open(group);
    }
    this.#active = group;
    this.#draw();
    if (treeFocused) this.#list.focus();
    treeFocused = false;
  }

  /** A name has come that may be of a new group. @param {string} name */
  seen(name) {
    let group = this.#root;
    while (group.open) {
      const slash = name.indexOf("/", group.prefix.length);
      if (slash < 0) return;
      const prefix = name.slice(0, slash + 1);
      const found = group.groups.find((each) => each.prefix === prefix);
      if (!found) {
        // Beyond some groups, one can ask for more.
        if (group.groups.length >= TREE_LIVE_MAX) group.after ??= `${group.groups.at(-1)?.prefix}${TREE_LAST}`;
        else if (group.after === null || compareNames(prefix, group.after) < 0) this.#add(group, [prefix]);
        return;
      }
      group = found;
    }
  }

  /** @param {Group} group @param {string[]} prefixes */
  #add(group, prefixes) {
    for (const prefix of prefixes)
      if (!group.groups.some((each) => each.prefix === prefix)) group.groups.push(newGroup(prefix, group));
    group.groups.sort((a, b) => compareNames(a.prefix, b.prefix));
    this.#draw();
  }

  /** @param {Group} group */
  async #open(group) {
    group.open = true;
    if (!group.groups.length && group.after !== null) await this.#more(group);
    this.#draw();
  }

  /** @param {Group} group */
  async #more(group) {
    const read = async (/** @type {string} */ after, /** @type {number} */ limit) => {
      const page = await readRows(this.#ctx, { under: group.prefix, search: "" }, { order: "name", data: "no", limit, after });
      return { names: page.rows.map((row) => row.name), more: page.more };
    };
    try {
      const { prefixes, after } = await findGroups(group.prefix, group.after ?? "", read);
      group.after = after;
      this.#add(group, prefixes);
    } catch {} // the table says what is wrong
  }

  #draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#items.clear();
      replace(this.#list, this.#item(this.#root, "All events", 1), this.#children(this.#root, 2));
      this.#mark();
    });
  }

  /** @param {Group} group @param {number} level @returns {HTMLElement[]} */
  #children(group, level) {
    if (!group.open) return [];
    const items = group.groups.flatMap((each) => [this.#item(each, each.prefix.slice(group.prefix.length), level), ...this.#children(each, level + 1)]);
    if (group.after === null && !group.groups.length && group !== this.#root) return [treeEmpty(level)];
    if (group.after === null || !group.groups.length) return items;
    group.more ??= { ...newGroup(group.prefix, group), isMore: true };
    const more = h("div", { class: "tree-item tree-more", role: "treeitem", id: `tree-${this.#items.size}`, "aria-level": String(level), onclick: () => this.#more(group) }, "More groups …");
    more.style.paddingInlineStart = `${level * 12}px`;
    this.#items.set(group.more, more);
    return [...items, more];
  }

  /** @param {Group} group @param {string} text @param {number} level */
  #item(group, text, level) {
    const toggle = group !== this.#root &&
      h("span", { class: "tree-toggle", "aria-hidden": "true", onclick: (/** @type {Event} */ event) => this.#toggle(group, event) }, group.open ? "▾" : "▸");
    const link = h("a", { class: "tree-link", tabindex: "-1", href: eventsRoute(routed(this.#ctx, group.prefix)) }, h("bdi", null, text));
    const item = h("div", {
      class: "tree-item", role: "treeitem", id: `tree-${this.#items.size}`, "aria-level": String(level),
      "aria-expanded": String(group.open), "aria-current": group.prefix === this.#under && "true",
      "aria-selected": String(group.prefix === this.#under),
    }, toggle || h("span", { class: "tree-toggle" }), link);
    item.style.paddingInlineStart = `${Math.max(0, level - 2) * 12}px`;
    this.#items.set(group, item);
    return item;
  }

  /** @param {Group} group @param {Event} event */
  #toggle(group, event) {
    event.preventDefault();
    if (group.open) {
      group.open = false;
      this.#draw();
    } else void this.#open(group);
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const groups = [...this.#items.keys()];
    const index = groups.indexOf(this.#active);
    /** @type {{[key: string]: () => unknown}} */
    const keys = {
      ArrowDown: () => (this.#active = groups[index + 1] ?? this.#active),
      ArrowUp: () => (this.#active = groups[index - 1] ?? this.#active),
      Home: () => (this.#active = groups[0]),
      End: () => (this.#active = groups.at(-1) ?? this.#active),
      ArrowRight: () => (this.#active.isMore || this.#active.open ? (this.#active = this.#active.groups[0] ?? this.#active) : this.#open(this.#active)),
      ArrowLeft: () => this.#leave(),
      Enter: () => this.#choose(),
      " ": () => this.#choose(),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
    this.#mark();
  }

  #leave() {
    if (this.#active.open && this.#active.parent) {
      this.#active.open = false;
      this.#draw();
    } else this.#active = this.#active.parent ?? this.#active;
  }

  #choose() {
    if (this.#active.isMore) return this.#more(/** @type {Group} */ (this.#active.parent));
    treeFocused = true;
    this.#ctx.go(eventsRoute(routed(this.#ctx, this.#active.prefix)));
  }

  #mark() {
    const active = this.#items.get(this.#active);
    if (active) this.#list.setAttribute("aria-activedescendant", active.id);
    for (const item of this.#items.values()) item.classList.toggle("tree-active", item === active);
    if (document.activeElement === this.#list) active?.scrollIntoView({ block: "nearest" });
  }
}

/** Stands in a group that has events, and no groups. @param {number} level */
function treeEmpty(level) {
  const element = h("div", { class: "tree-item tree-empty", role: "treeitem", "aria-disabled": "true", "aria-level": String(level) }, "No groups in it");
  element.style.paddingInlineStart = `${level * 12}px`;
  return element;
}

/** The table of another group is another screen, whose tree has the focus if this one has. */
let treeFocused = false;
