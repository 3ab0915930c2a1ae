// A form: its controls follow an event, and what somebody types is saved.

import { controlsOf, read, rendered, show } from "./controls.js";
import { Draft, same } from "./draft.js";
import { Presence } from "./presence.js";

/** @import { FormOptions, FormState } from "./types.js" */
/** @import { Event } from "./event.js" */

const IDLE_MS = 1_000; // without a key, until what is typed is saved

/** The event that a control has been bound to last; undefined if it shows nothing that was typed.
 * @type {WeakMap<object, Event | undefined>} */
const last = new WeakMap();

export class Form {
  #end = new AbortController();
  /** The control in which a text is composed. @type {EventTarget | null} */
  #composing = null;
  /** The controls by their names, while all of them are looked at. @type {Map<string, any[]> | undefined} */
  #all;
  /** @type {FormState | undefined} */
  #state;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Presence | undefined} */
  #presence;

  /** @param {Event} event @param {HTMLElement} element @param {FormOptions} options @param {() => void} changed */
  constructor(event, element, { save = "change", idle = IDLE_MS, others = false }, changed) {
    this.#event = event;
    this.#element = element;
    this.#automatic = save === "change";
    this.#idle = idle;
    this.draft = new Draft(event, {
      show: (path, value) => show(this.#controls(path), value),
      busy: (path) => this.#controls(path).some((each) => each === this.#composing || (each.validity.badInput && each.matches(":focus"))),
      problem: (path) => this.#controls(path).find((each) => each.willValidate && !each.validity.valid)?.validationMessage ?? "",
      refuse: (path, problem) => this.#controls(path).forEach((each) => each.setCustomValidity(problem)),
    }, changed);
    if (others) this.#presence = new Presence(event, changed);
    this.#listen();
    const observer = new MutationObserver(() => this.#follow());
    observer.observe(element, { childList: true, subtree: true });
    const follow = () => this.#follow();
    const ends = [event.subscribe(follow), event.state.subscribe(follow), event.values.session.user.subscribe(() => this.draft.adopt())];
    this.#end.signal.addEventListener("abort", () => {
      observer.disconnect();
      ends.forEach((end) => end());
      this.#presence?.close();
    });
  }
  #event;
  #element;
  #automatic;
  #idle;

  #listen() {
    const { signal } = this.#end;
    /** @param {string} kind @param {(event: any) => void} run @param {EventTarget} [target] */
    const listen = (kind, run, target = this.#element) => target.addEventListener(kind, run, { signal });
    listen("input", ({ target }) => this.#edit(target, false));
    listen("change", ({ target }) => this.#edit(target, true));
    // What is not complete is an edit, too, though a browser does not say so of every date.
    listen("focusout", ({ target }) => {
      this.#edit(target, false);
      this.draft.leave();
    });
    listen("compositionstart", ({ target }) => (this.#composing = target));
    listen("compositionend", ({ target }) => {
      this.#composing = null;
      this.#edit(target, false);
    });
    listen("reset", (event) => {
      event.preventDefault();
      this.draft.reset();
    });
    listen("pagehide", () => this.#hide(), window);
    listen("visibilitychange", () => (document.hidden ? this.#hide() : this.#presence?.renew()), document);
  }

  /** @param {string} path */
  #controls(path) {
    if (this.draft.closed) return []; // they may belong to another form now
    return (this.#all ?? controlsOf(this.#element)).get(path) ?? [];
  }

  /** Each field shows what the event has, unless somebody is typing there. Controls may come and go. */
  #follow() {
    this.#all = controlsOf(this.#element);
    for (const [path, controls] of this.#all) {
      if (!this.draft.fields.has(path)) this.#begin(path, controls);
      controls.forEach((each) => last.set(each, this.#event));
      this.draft.receive(path);
    }
    this.#all = undefined;
  }

  /** What was typed before this program was there counts. But a page that is loaded anew shows what was typed before that,
   * which is old; then only the field in which somebody is counts. @param {string} path @param {any[]} controls */
  #begin(path, controls) {
    // What another event had is nothing that was typed.
    const other = controls.some((each) => last.has(each) && last.get(each) !== this.#event);
    if (other) show(controls, undefined);
    const is = read(controls);
    const was = other ? is : rendered(controls);
    this.draft.field(path, was);
    const [{ type } = {}] = /** @type {any[]} */ (performance.getEntriesByType("navigation"));
    if (!same(is, was) && (type === "navigate" || controls.some((each) => each.matches(":focus")))) {
      this.draft.edit(path, is);
      this.#changed(this.#idle);
    }
  }

  /** @param {any} target @param {boolean} now  it is complete, so it is saved at once */
  #edit(target, now) {
    const controls = this.#controls(target.name);
    if (!controls.includes(target)) return;
    const others = controls.filter((each) => each !== target);
    const { mine } = this.draft.field(target.name);
    const value = read([target, ...others], mine);
    if (same(value, mine)) this.draft.receive(target.name); // what came while the control was busy
    else this.draft.edit(target.name, value);
    this.#changed(now ? 0 : this.#idle);
  }

  /** Saves what has changed, unless this is for the page to say. @param {number} [wait]  milliseconds */
  #changed(wait = 0) {
    clearTimeout(this.#timer);
    if (!this.#automatic) return;
    if (wait) this.#timer = setTimeout(() => this.save(), wait);
    else this.save();
  }

  /** Returns the state once what was typed is stored or refused. */
  async save() {
    clearTimeout(this.#timer);
    for (let sent = this.draft.save(); sent; sent = this.draft.sent) await sent.catch(() => {});
    return this.describe();
  }

  /** The page is hidden, and may be closed without another event. What is not stored is sent in requests that the browser
   * completes after the page is gone. What is under way already is in them, too; the server stores a uuid only once. */
  async #hide() {
    this.#presence?.leave();
    if (this.#automatic) this.draft.save(true);
    const { outbox, session } = this.#event.values;
    const token = await session.fresh();
    const rows = session.expired ? [] : outbox.unsent().filter((row) => !row.batch && !row.check);
    for (const event of new Set(rows.map((row) => row.event))) {
      const records = rows.filter((row) => row.event === event).map((row) => row.json);
      outbox.sender.server.call("insert", token, `[${records}]`, true).catch(() => {});
    }
  }

  /** @param {"undo" | "redo" | "keep" | "take"} what @param {string} path  of the field, if it is about one */
  act(what, path) {
    this.draft[what](path);
    this.#changed();
  }

  /** @returns {FormState} */
  describe() {
    const fields = [...this.draft.fields].map(([path, { mine, conflict, error, by, at }]) => {
      const state = { edited: this.draft.edited(path), conflict: conflict && { ...conflict, mine }, error, by, at };
      return /** @type {const} */ ([path, state]);
    });
    const { status, error, by, at } = this.#event.state.get();
    const { saving, refused, undoable, redoable } = this.draft;
    /** @type {FormState} */
    const state = {
      status, error, by, at, saving, refused, undoable, redoable,
      saved: !fields.some(([, { edited }]) => edited),
      fields: Object.fromEntries(fields.filter(([, field]) => Object.values(field).some(Boolean))),
      others: this.#presence?.users ?? [],
    };
    // The same object as long as it says the same, so that a page that shows it in the form is not notified again.
    return JSON.stringify(state) === JSON.stringify(this.#state) ? /** @type {FormState} */ (this.#state) : (this.#state = state);
  }

  close() {
    clearTimeout(this.#timer);
    if (this.#automatic) this.draft.save(true);
    this.draft.closed = true;
    // What they show is nothing that was typed, should they be bound again.
    for (const [path, controls] of controlsOf(this.#element)) if (!this.draft.edited(path)) controls.forEach((each) => last.set(each, undefined));
    this.#end.abort();
  }
}
