// Two people have changed the same event: what was there before, what each has made of it, and the ways on.

import { threeWayTable } from "./comparison.js";
import { h, replace } from "./h.js";
import { mergeJson } from "./merge.js";
import { authorOf, timeOf } from "./version.js";
import { everySecond, timeElement } from "./words.js";

/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */

const REFRESH_MS = 300; // after the last key

/** `mine` returns the text as it is now; null if it is not valid JSON. `isOwn`: the newer version is of the same user, for example from another window.
 * @typedef {object} Conflict
 * @property {VersionRecord | null} base
 * @property {VersionRecord | null} latest
 * @property {VersionRecord | null} removal
 * @property {() => string | null} mine
 * @property {boolean} isOwn */

export class ConflictPanel {
  #ctx;
  #name;
  #on;
  /** @type {Conflict | null} */
  #conflict = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** What has become of the insert: "Not stored". */
  #refused = "";
  #title = h("p", { class: "event-conflict-title" });
  #body = h("div", { class: "event-conflict-body", hidden: true });
  #more = h("button", { type: "button", "aria-expanded": "false", onclick: () => (this.#body.hidden ? this.open() : this.#close()) }, "See what");

  /** @param {Context} ctx @param {string} name @param {{take: () => void, merge: (text: string) => void, overwrite: () => void}} on */
  constructor(ctx, name, on) {
    this.#ctx = ctx;
    this.#name = name;
    this.#on = on;
    // Outside of what is said at once, which is the title alone.
    this.element = h("div", { class: "event-conflict", hidden: true }, h("div", { class: "event-conflict-head", role: "alert" }, this.#title, this.#more), this.#body);
    everySecond(ctx, () => this.#conflict && this.#titles(this.#conflict));
  }

  /** The text in the field is not touched. @param {Conflict} conflict */
  show(conflict) {
    const before = this.#conflict;
    this.#conflict = conflict;
    this.#titles(conflict);
    this.element.hidden = false;
    if (!this.#body.hidden && before?.latest?.uuid !== conflict.latest?.uuid) this.#fill();
  }

  /** The text has changed. */
  typed() {
    if (!this.#conflict || this.#body.hidden) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fill(), REFRESH_MS);
  }

  get isShown() {
    return this.#conflict !== null;
  }

  hide() {
    this.#conflict = null;
    this.#refused = "";
    this.element.hidden = true;
    this.#close();
  }

  /** `refused` begins the panel with what has become of the insert. @param {string} [refused] */
  open(refused = "") {
    if (!this.#conflict) return;
    this.#refused = refused;
    this.#titles(this.#conflict);
    this.#fill();
    this.#body.hidden = false;
    this.#more.setAttribute("aria-expanded", "true");
    this.#more.textContent = "Close";
    /** @type {HTMLElement | null} */ (this.#body.querySelector("button:enabled"))?.focus();
  }

  #fill() {
    if (!this.#conflict) return;
    const buttons = () => [...this.#body.querySelectorAll("button")];
    const focused = buttons().findIndex((each) => each === document.activeElement);
    replace(this.#body, this.#details(this.#conflict));
    buttons()[focused]?.focus();
  }

  /** Puts what is typed now on the newer version, if that is still possible. @param {Conflict} conflict */
  #merge(conflict) {
    const { text } = mergedWith(conflict, conflict.mine());
    if (text === undefined) this.#fill();
    else this.#on.merge(text);
  }

  #close() {
    this.#body.hidden = true;
    this.#more.setAttribute("aria-expanded", "false");
    this.#more.textContent = "See what";
  }

  /** @param {Conflict} conflict */
  #titles({ latest, removal, isOwn }) {
    const version = latest ?? removal;
    const refused = this.#refused && h("strong", null, `${this.#refused}: `);
    const what = latest ? "changed" : removal?.ends ? "ended" : "removed";
    const where = isOwn ? " from another window" : "";
    const event = refused ? h("bdi", { class: "mono" }, this.#name) : "this";
    if (!version) return replace(this.#title, refused, refused ? event : "It", " was removed meanwhile.");
    const time = timeElement(timeOf(version), this.#ctx.broker.now());
    replace(this.#title, refused, h("bdi", null, authorOf(version)), what === "ended" ? ["’s version of ", event, " has ended"] : [` has ${what} `, event],
      refused && " meanwhile", where, " ", time, ".");
  }

  /** @param {Conflict} conflict */
  #details(conflict) {
    const { base, latest, removal } = conflict;
    const mine = conflict.mine();
    const author = h("bdi", null, authorOf(latest ?? removal));
    const theirs = latest?.data ?? null;
    const { text, conflicts } = mergedWith(conflict, mine);
    const why = mine === null ? "Your text is not valid JSON, so the two cannot be put together." : `Both have changed ${conflicts.slice(0, 3).join(", ")}, so the two cannot be put together.`;
    return [
      mine === null ? null : threeWayTable(base?.data ?? null, mine, theirs, author),
      h("div", { class: "toolbar" },
        h("button", { type: "button", class: text === undefined ? "" : "primary", disabled: text === undefined, onclick: () => this.#merge(conflict) }, "Keep both changes …"),
        h("button", { type: "button", onclick: () => this.#on.take() }, "Take theirs"),
        h("button", { type: "button", class: "danger", disabled: mine === null, onclick: () => this.#on.overwrite() }, "Overwrite …")),
      text === undefined ? h("p", { class: "muted" }, why) : null,
    ];
  }
}

/** @param {Conflict} conflict @param {string | null} mine @returns {{text?: string, conflicts: string[]}} */
const mergedWith = ({ base, latest }, mine) => (mine === null ? { conflicts: [] } : mergeJson(base?.data ?? null, mine, latest?.data ?? null));
