// The draft: what is typed into a form, beside what the server has, field by field.

/** @import { BrokerError, FieldState } from "./types.js" */
/** @import { Event } from "./event.js" */

const STEPS_MAX = 100; // that can be taken back

/** A field is what is merged. `mine` is what its controls show, `base` the value upon which somebody types: the same, as
 * long as nothing is edited.
 * @typedef {{base: any, mine: any, conflict?: FieldState["conflict"], error?: string, by?: string | null, at?: number,
 *   known?: boolean, refused?: boolean}} Field */

/** A write under way: what it changes, from what to what, and whose it is.
 * @typedef {{changes: Map<string, {base: any, mine: any}>, user: string | null, sent?: any}} Write */

/** What the draft needs of the controls of a field: to show a value, whether they must not be touched now, what is wrong
 * with what is typed, and to show what the server finds wrong with it, or that this is over.
 * @typedef {{show: (path: string, value: any) => void, busy: (path: string) => boolean, problem: (path: string) => string,
 *   refuse: (path: string, problem: string) => void}} Controls */

export class Draft {
  /** @type {Map<string, Field>} */
  fields = new Map();
  /** Why the server has refused what was typed. @type {BrokerError | undefined} */
  refused;
  /** A step is one stay in a field. @type {{path: string, before: any, after: any}[]} */
  #done = [];
  /** @type {{path: string, before: any, after: any}[]} */
  #undone = [];
  /** The field in which somebody is, and its value before. @type {{path: string, before: any} | undefined} */
  #stay;
  /** There is more than one only if the page was hidden meanwhile. @type {Set<Write>} */
  #writes = new Set();
  #again = false;
  #known = false;

  /** @param {Event} event @param {Controls} controls @param {() => void} changed */
  constructor(event, controls, changed) {
    this.#event = event;
    this.#controls = controls;
    this.#changed = changed;
  }
  #event;
  #controls;
  #changed;

  /** The writes of whoever is logged in now. Those of another user wait in the outbox for this user. */
  #own() {
    return [...this.#writes].filter((each) => each.user === this.#event.values.session.name);
  }

  get saving() {
    return this.#own().length > 0;
  }

  get undoable() {
    const stay = this.#stay;
    return this.#done.length > 0 || (stay !== undefined && !same(stay.before, this.field(stay.path).mine));
  }

  get redoable() {
    return this.#undone.length > 0;
  }

  /** @param {string} path @param {any} [base]  what the controls show already */
  field(path, base = valueAt(this.#event.get(), path)) {
    let field = this.fields.get(path);
    if (!field) this.fields.set(path, (field = { base, mine: base }));
    return field;
  }

  /** Whether something in this field is not stored. @param {string} path */
  edited(path) {
    return dirty(this.field(path)) || this.#own().some(({ changes }) => changes.has(path));
  }

  /** Somebody types. @param {string} path @param {any} value */
  edit(path, value) {
    const field = this.field(path);
    if (this.#stay?.path !== path) {
      this.leave();
      this.#stay = { path, before: field.mine };
    }
    this.#undone = [];
    this.#put(path, value);
  }

  /** @param {string} path @param {any} value */
  #put(path, value) {
    const field = this.field(path);
    if (field.refused) this.#controls.refuse(path, "");
    Object.assign(field, { mine: value, error: undefined, refused: false, by: undefined, at: undefined });
    this.refused = undefined;
    this.receive(path);
  }

  /** Somebody leaves a field. What they have done there is one step. */
  leave() {
    const stay = this.#stay;
    this.#stay = undefined;
    if (stay) this.#record({ ...stay, after: this.field(stay.path).mine });
  }

  /** @param {{path: string, before: any, after: any}} step */
  #record(step) {
    if (!same(step.before, step.after)) this.#done = [...this.#done, step].slice(-STEPS_MAX);
  }

  /** Compares a field with what the event has now. @param {string} path */
  receive(path) {
    this.#changed();
    if (this.#controls.busy(path)) return;
    const { status, by, at } = this.#event.state.get();
    const unknown = status === "loading" || status === "denied";
    this.#known ||= !unknown;
    const field = this.field(path);
    // What is not known changes nothing that is typed, and nothing that was there before anything was known.
    if (!unknown || (this.#known && !dirty(field))) {
      const theirs = valueAt(this.#event.get(), path);
      const own = same(theirs, field.mine);
      if (own || !dirty(field)) {
        if (!own) {
          if (this.#stay?.path === path) this.leave();
          if (field.known) Object.assign(field, { by, at });
        }
        Object.assign(field, { base: theirs, mine: theirs, conflict: undefined });
      } else if (same(theirs, field.base)) field.conflict = undefined;
      else if (!field.conflict || !same(theirs, field.conflict.theirs)) field.conflict = { theirs, by, at };
      field.known = !unknown;
      this.#controls.show(path, field.mine);
    }
  }

  /** Writes what is edited, but for conflicts and for what is not valid: one write after the other, unless the page may be
   * closed now. Returns a promise that settles with the last write. @param {boolean} [now] */
  save(now = false) {
    this.#again = this.saving && !now;
    if (!this.#again) this.#write();
    return this.#own().at(-1)?.sent;
  }

  #write() {
    this.refused = undefined;
    const { outbox, session } = this.#event.values;
    const data = this.#event.get();
    const changes = new Map();
    for (const [path, field] of this.fields) {
      if (!dirty(field) || field.conflict || this.#controls.busy(path)) continue;
      field.error = this.#controls.problem(path) || (fits(data, path) ? undefined : `a part of ${path} is no object, so there is no place for it`);
      if (field.error) continue;
      changes.set(path, { base: field.base, mine: field.mine });
      field.base = field.mine;
    }
    this.#changed();
    if (!changes.size) return;
    /** @type {Write} */
    const write = { changes, user: session.name };
    this.#writes.add(write);
    try {
      // It is made again if somebody else was faster. A field that they have changed, too, is then not written.
      write.sent = this.#event.update((latest) => {
        for (const [path, { base, mine }] of changes) {
          const theirs = valueAt(latest, path);
          if (!fits(latest, path) || !(same(theirs, base) || same(theirs, mine))) this.#takeBack(write, path);
        }
        if (!changes.size) outbox.discard(write.sent?.uuid);
        return [...changes].reduce((value, [path, { mine }]) => withValue(value, path.split("."), mine), latest);
      });
    } catch (error) {
      return this.#refuse(write, /** @type {BrokerError} */ (error));
    }
    const stored = () => {
      this.#writes.delete(write);
      this.#next();
    };
    write.sent.then(stored, (/** @type {BrokerError} */ error) => this.#writes.has(write) && this.#refuse(write, error));
  }

  #next() {
    if (this.#again && !this.saving) this.save();
    this.#changed();
  }

  /** What is not stored is an edit again. @param {Write} write @param {string} path */
  #takeBack(write, path) {
    const writes = [...this.#writes];
    const change = write.changes.get(path);
    write.changes.delete(path);
    // A later write of this field has begun with what this one was to write.
    const later = writes.slice(writes.indexOf(write) + 1).find((each) => each.changes.has(path));
    Object.assign(later?.changes.get(path) ?? this.field(path), { base: change?.base });
  }

  /** @param {Write} write */
  #withdraw(write) {
    const paths = [...write.changes.keys()];
    paths.forEach((path) => this.#takeBack(write, path));
    this.#writes.delete(write);
    paths.forEach((path) => this.receive(path));
  }

  /** @param {Write} write @param {BrokerError} error */
  #refuse(write, error) {
    // What was typed is in the form, so it need not be in the outbox, too.
    this.#event.values.outbox.discard(write.sent?.uuid);
    if (write.changes.size) {
      const field = error.path === undefined ? undefined : this.fields.get(error.path);
      if (field) {
        Object.assign(field, { error: error.message, refused: true });
        this.#controls.refuse(/** @type {string} */ (error.path), error.message);
      } else this.refused = error;
    }
    this.#withdraw(write);
    this.#next();
  }

  /** Another user has logged in. What was written by nobody waits for nobody, so it is written again. */
  adopt() {
    for (const write of this.#writes) {
      if (write.user !== null || this.#event.values.session.name === null) continue;
      this.#withdraw(write);
      this.#event.values.outbox.of(this.#event.name).forEach((row) => row.uuid === write.sent.uuid && this.#event.values.outbox.drop(row));
      this.save();
    }
  }

  /** Ends a conflict with what is typed. @param {string} path */
  keep(path) {
    const { conflict } = this.field(path);
    if (!conflict) return undefined;
    Object.assign(this.field(path), { base: conflict.theirs, conflict: undefined });
    return this.save();
  }

  /** Ends a conflict with what somebody else has written. To take that back brings what was typed. @param {string} path */
  take(path) {
    const field = this.field(path);
    if (!field.conflict) return;
    this.leave();
    this.#record({ path, before: field.mine, after: field.conflict.theirs });
    this.#undone = [];
    field.base = field.conflict.theirs;
    this.#put(path, field.base);
  }

  /** Takes back what was typed, and is not written yet. */
  reset() {
    this.leave();
    for (const [path, field] of this.fields) if (dirty(field)) this.#put(path, field.conflict?.theirs ?? field.base);
  }

  undo() {
    this.leave();
    const step = this.#done.pop();
    if (step) this.#undone.push(step);
    return step && this.#step(step.path, step.after, step.before);
  }

  redo() {
    this.leave();
    const step = this.#undone.pop();
    if (step) this.#done.push(step);
    return step && this.#step(step.path, step.before, step.after);
  }

  /** If the field has another value now than the step begins with, somebody else has changed it: a conflict.
   * @param {string} path @param {any} from @param {any} to */
  #step(path, from, to) {
    const field = this.field(path);
    if (!same(field.mine, from)) field.base = from;
    this.#put(path, to);
    return this.save();
  }
}

/** Whether two values are the same for a form, in which nothing, no text and an empty list look alike, and so do a number and
 * its text. @param {any} one @param {any} other */
export const same = (one, other) => textOf(one) === textOf(other);

/** @param {any} value @returns {string} */
export const textOf = (value) =>
  value == null || value === false || value.length === 0 ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);

/** @param {Field} field */
const dirty = ({ base, mine }) => !same(base, mine);

/** @param {any} value */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** @param {any} data @param {string} path  such as `address.city` */
const valueAt = (data, path) =>
  path.split(".").reduce((value, key) => (isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined), data);

/** Whether a value can have something at a path: whatever is on the way there is an object, or nothing yet.
 * @param {any} data @param {string} path */
const fits = (data, path) =>
  path.split(".").every((_, index, keys) => {
    const part = index ? valueAt(data, keys.slice(0, index).join(".")) : data;
    return part == null || isObject(part);
  });

/** @param {any} data @param {string[]} keys @param {any} value @returns {any} */
const withValue = (data, [key, ...keys], value) => ({ ...data, [key]: keys.length ? withValue(valueAt(data, key), keys, value) : value });
