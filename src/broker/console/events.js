// The screen of all events: search, the tree of names, the live table, and the slider of time.

import { h, replace } from "./h.js";
import { eventRoute, eventsRoute, newEventRoute } from "./router.js";
import { EventTable } from "./table.js";
import { terminalLine } from "./terminal.js";
import { ago, timeOf } from "./times.js";

/** @import { NameTree } from "./tree.js" */
/** @import { Context } from "./types.js" */

const SEARCH_PAUSE_MS = 150; // after the last key
const ADDRESS_PAUSE_MS = 200; // after the slider was moved
const DUE_MAX = 200; // records that are marked on the slider
const DUE_PAUSE_MS = 2_000; // between two times at which they are read, since they come with their data
// With less room, the tree is a drawer above the table.
const WIDE = matchMedia("(min-width: 1080px)");

/** @typedef {"newest" | "name"} Order */

const STATE_WORDS = { connecting: "Connecting …", live: "Live", waiting: "The connection is interrupted. Trying again …", denied: "" };

/** @param {Context} ctx */
export function eventsScreen(ctx) {
  return new EventsScreen(ctx).element;
}

class EventsScreen {
  #ctx;
  #under;
  #table;
  /** @type {NameTree | undefined} */
  #tree;
  /** When records are due. @type {readonly number[]} */
  #due = [];
  #showDue = () => {};
  #search;
  #status = h("div", { class: "events-status" });
  #groups = h("details", { class: "events-tree" });
  #time = h("div", { class: "events-time" });
  #empty = h("div", { class: "empty events-empty", hidden: true });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #searchTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timeTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #dueTimer;
  /** What the line above the table says. @type {string | Error} */
  #said = "";
  #sayWhat = false; // whether the user has asked for other rows, so that a screen reader announces how many there are

  /** @param {Context} ctx */
  constructor(ctx) {
    this.#ctx = ctx;
    const { query } = ctx;
    this.#under = query.get("under") ?? "";
    const order = query.get("order") === "name" ? "name" : "newest";
    const search = query.get("search") ?? "";
    const at = timeOf(query.get("at"));
    ctx.title(this.#under || "Events");
    this.#table = new EventTable(ctx, { under: this.#under, search, order }, {
      changed: () => this.#show(),
      name: (name) => this.#tree?.seen(name),
      pending: () => (this.#dueTimer ??= setTimeout(() => this.#readDue(), DUE_PAUSE_MS)),
    });
    this.#search = h("input", {
      type: "search", value: search, placeholder: "Search names", "aria-label": "Search names", "aria-keyshortcuts": "/",
      autocomplete: "off", spellcheck: false, title: "Search names (/)",
    });
    ctx.listen(this.#search, "input", () => this.#searchSoon());
    ctx.listen(this.#search, "keydown", (event) => {
      if (event.key === "ArrowDown") this.#table.focus();
      if (event.key === "ArrowDown" || event.key === "Escape") event.preventDefault();
      if (event.key === "Escape") this.#find("");
    });
    ctx.commands([{ name: "Search names of events", keys: "/", run: () => this.#search.focus() }]);
    this.element = this.#build(order);
    void this.#begin(at);
  }

  /** The rows come first, and what stands around them is loaded then. @param {number | null} at */
  async #begin(at) {
    await this.#table.show(at);
    const [{ NameTree }, { slider }] = await Promise.all([import("./tree.js"), import("./slider.js")]);
    if (this.#ctx.signal.aborted) return;
    this.#tree = new NameTree(this.#ctx, this.#under);
    this.#groups.append(this.#tree.element);
    const pending = {
      get: () => this.#due,
      subscribe: (/** @type {(due: readonly number[]) => void} */ run) => {
        this.#showDue = () => run(this.#due);
        return () => (this.#showDue = () => {});
      },
    };
    this.#time.append(slider(this.#ctx, { at: this.#table.at, change: (time) => this.#setTime(time), pending }));
    void this.#readDue();
  }

  /** @param {Order} order */
  #build(order) {
    const groups = this.#groups;
    groups.append(h("summary", null, "Groups", this.#under && h("bdi", { class: "mono" }, this.#under)));
    groups.open = WIDE.matches;
    this.#ctx.listen(WIDE, "change", () => (groups.open = WIDE.matches));
    this.#table.element.append(this.#empty);
    return h("div", { class: "events" },
      h("div", { class: "events-top" }, h("h1", null, this.#path()),
        h("div", { class: "toolbar" }, this.#search, this.#orders(order), h("a", { class: "button primary", href: newEventRoute(this.#under) }, "New event"))),
      this.#status, h("div", { class: "events-middle" }, groups, this.#table.element), this.#time);
  }

  /** The prefix, of which each part leads to its group. */
  #path() {
    if (!this.#under) return ["Events"];
    /** @type {(Element | string)[]} */
    const parts = [h("a", { href: eventsRoute(routed(this.#ctx, "")) }, "Events"), " / "];
    let from = 0;
    for (let slash; (slash = this.#under.indexOf("/", from)) >= 0; from = slash + 1) {
      const prefix = this.#under.slice(0, slash + 1);
      const text = h("bdi", null, this.#under.slice(from, slash));
      const isLast = slash === this.#under.length - 1;
      parts.push(isLast ? text : h("a", { href: eventsRoute(routed(this.#ctx, prefix)) }, text), isLast ? "" : " / ");
    }
    return [...parts, h("bdi", null, this.#under.slice(from))];
  }

  /** @param {Order} order */
  #orders(order) {
    const select = h("select", { "aria-label": "Order", class: "events-order", value: order },
      h("option", { value: "newest" }, "Newest first"), h("option", { value: "name" }, "By name"));
    select.onchange = () => {
      this.#ctx.setQuery("order", select.value === "name" ? "name" : null);
      this.#sayWhat = true;
      void this.#table.select({ order: /** @type {Order} */ (select.value) });
    };
    return select;
  }

  #searchSoon() {
    clearTimeout(this.#searchTimer);
    this.#searchTimer = setTimeout(() => this.#find(this.#search.value), SEARCH_PAUSE_MS);
  }

  /** @param {string} text */
  #find(text) {
    clearTimeout(this.#searchTimer);
    if (this.#search.value !== text) this.#search.value = text;
    if ((this.#ctx.query.get("search") ?? "") === text) return;
    this.#ctx.setQuery("search", text || null);
    this.#sayWhat = true;
    void this.#table.select({ search: text });
  }

  /** @param {number | null} time */
  #setTime(time) {
    clearTimeout(this.#timeTimer);
    // Browsers allow only some changes of the address in a while, and a slider that is dragged makes many.
    const text = time === null ? null : new Date(time).toISOString().replace(".000", "");
    this.#timeTimer = setTimeout(() => this.#ctx.setQuery("at", text), ADDRESS_PAUSE_MS);
    this.#sayWhat = false;
    void this.#table.show(time);
  }

  /** What is planned, for the marks of the slider. Only those with a token may read it. */
  async #readDue() {
    this.#dueTimer = undefined;
    if (!this.#ctx.broker.user.get()) return;
    try {
      const response = await this.#ctx.api.get(`pending?limit=${DUE_MAX}`);
      const records = /** @type {{timestamp: number}[]} */ (await response.json());
      this.#due = records.map((each) => 1_000 * each.timestamp);
      this.#showDue();
    } catch {} // the marks are a hint
  }

  /** Shows what stands around the table. */
  #show() {
    const { at, error, listing } = this.#table;
    this.element.classList.toggle("events-then", at !== null);
    const now = this.#ctx.broker.now();
    const text = error ? "" : at === null ? this.#liveText() : this.#thenText(at, now);
    this.#status.dataset.state = error ? "error" : at === null ? this.#table.state : "then";
    const said = error ?? text;
    // The same again would take the focus away, and be read aloud again.
    if (error && said !== this.#said) this.#showError(error);
    else if (said !== this.#said) replace(this.#status, text);
    this.#said = said;
    const isEmpty = !error && !listing.more && !listing.length;
    if (isEmpty && this.#empty.hidden) replace(this.#empty, this.#emptyText());
    this.#empty.hidden = !isEmpty;
    if (this.#sayWhat && !error) this.#announce(listing.length, listing.more);
  }

  #liveText() {
    const { state, changes } = this.#table;
    const count = changes && `${changes.toLocaleString("en")} ${changes === 1 ? "change" : "changes"} since this page was opened`;
    return [STATE_WORDS[state], count].filter(Boolean).join(" · ");
  }

  /** @param {number} at @param {number} now */
  #thenText(at, now) {
    const { listing, state } = this.#table;
    const isByName = listing.more && this.#ctx.query.get("order") !== "name";
    return [
      at < now ? `As it was ${ago(at, now)}` : `As it will be ${ago(at, now)}, if nothing changes`,
      isByName && "by name, since there are so many events",
      state === "waiting" && STATE_WORDS.waiting,
    ].filter(Boolean).join(" · ");
  }

  /** @param {number} count @param {boolean} more */
  #announce(count, more) {
    this.#sayWhat = false;
    this.#ctx.announce(`${more ? "More than " : ""}${count} ${count === 1 ? "event" : "events"}`);
  }

  /** @param {Error & {status?: number}} error */
  #showError(error) {
    const denied = error.status === 401 || error.status === 403;
    const signedOut = !this.#ctx.broker.user.get();
    replace(this.#status, h("span", { class: "error", role: "alert" }, denied ? "You may not read these events. " : `${error.message} `,
      denied && signedOut ? h("a", { href: "#/sign-in" }, "Sign in") : h("button", { class: "link", onclick: () => this.#table.show(this.#table.at) }, "Try again")));
  }

  #emptyText() {
    const search = this.#ctx.query.get("search");
    if (search) return [h("p", null, "No name contains ", h("bdi", { class: "mono" }, search), "."), h("button", { onclick: () => this.#find("") }, "Show all events")];
    if (this.#table.at !== null) return [h("p", null, `There ${this.#table.at < this.#ctx.broker.now() ? "was" : "will be"} no event at this time.`)];
    if (this.#under) return [h("p", null, "No name begins with ", h("bdi", { class: "mono" }, this.#under), ".")];
    if (!this.#ctx.broker.user.get()) {
      return [h("p", null, "There is no event yet, or none that everybody may read."), h("a", { class: "button", href: "#/sign-in" }, "Sign in")];
    }
    return [
      h("p", null, "There is no event yet. Insert one here, or from a terminal:"),
      h("a", { class: "button", href: eventRoute() }, "New event"),
      terminalLine(this.#ctx, () => "greeting").element,
    ];
  }
}

/** The address of another group keeps the order and the time. @param {Context} ctx @param {string} under */
export function routed(ctx, under) {
  return { under, order: ctx.query.get("order") ?? undefined, at: ctx.query.get("at") ?? undefined };
}
