// The draft: what is typed into a form, beside what the server has, field by field.

/** @import { BrokerError, Conflict } from "./types.js" */
/** @import { Event } from "./event.js" */

const STEPS_MAX = 100; // that can be taken back

/** A field is what is merged. `mine` is what its controls show, `base` the value upon which somebody types: the same, as
 * long as nothing is edited.
 * @typedef {{base: any, mine: any, conflict?: Omit<Conflict, "mine">, error?: string, by?: string | null, at?: number,
 *   known?: boolean, refused?: boolean, user?: string | null}} Field
 *   `user` is who has typed it. */

/** A write under way: what it changes, from what to what, and whose it is.
 * @typedef {Map<string, {base: any, mine: any}> & {user: string | null, sent?: any}} Write */

/** One stay in a field. @typedef {{path: string, before: any, after: any}} Step */

/** What the draft needs of the controls of a field: to show a value, whether they must not be touched now, what is wrong
 * with what is typed, and to show what the server finds wrong with it, or that this is over.
 * @typedef {{show: (path: string, value: any) => void, busy: (path: string) => boolean, problem: (path: string) => string,
 *   refuse: (path: string, problem: string) => void}} Controls */

export class Draft {
  /** @type {Map<string, Field>} */
  fields = new Map();
  /** Why the server has refused what was typed. @type {BrokerError | undefined} */
  refused;
  closed = false;
  /** @type {Step[]} */
  #done = [];
  /** @type {Step[]} */
  #undone = [];
  /** The field in which somebody is, and its value before. @type {{path: string, before: any} | undefined} */
  #stay;
  /** There is more than one only if the page was hidden meanwhile. @type {Set<Write>} */
  #writes = new Set();
  /** What is typed is to be saved once the write under way has ended, or once it is known what the event is. */
  #again = false;
  /** Who has typed. */
  #user;

  /** @param {Event} event @param {Controls} controls @param {() => void} changed */
  constructor(event, controls, changed) {
    this.#event = event;
    this.#controls = controls;
    this.#changed = changed;
    this.#user = event.values.session.name;
  }
  #event;
  #controls;
  #changed;

  /** The writes of whoever is logged in now, and those of nobody, which become theirs (`adopt`). Those of another user wait
   * in the outbox for this user. */
  #own() {
    return [...this.#writes].filter(({ user }) => user === null || user === this.#event.values.session.name);
  }

  get saving() {
    return this.#own().length > 0;
  }

  get undoable() {
    return this.#done.length > 0 || this.#stay !== undefined;
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
    return dirty(this.field(path)) || this.#own().some((write) => write.has(path));
  }

  /** Somebody types. @param {string} path @param {any} value */
  edit(path, value) {
    const field = this.field(path);
    if (this.#stay?.path !== path) {
      this.leave();
      this.#stay = { path, before: field.mine };
    }
    this.#undone.length = 0;
    this.#put(path, value);
  }

  /** @param {string} path @param {any} value */
  #put(path, value) {
    Object.assign(this.#cleared(path), { mine: value, user: this.#user, by: undefined, at: undefined });
    this.refused = undefined;
    this.receive(path);
  }

  /** A field with which nothing is wrong any more. @param {string} path */
  #cleared(path) {
    const field = this.field(path);
    if (field.refused) this.#controls.refuse(path, "");
    return Object.assign(field, { error: undefined, refused: false });
  }

  /** Somebody leaves a field. What they have done there is one step. */
  leave() {
    const stay = this.#stay;
    this.#stay = undefined;
    if (stay) this.#record({ ...stay, after: this.field(stay.path).mine });
  }

  /** @param {Step} step */
  #record(step) {
    if (same(step.before, step.after)) return;
    this.#undone.length = 0;
    if (this.#done.push(step) > STEPS_MAX) this.#done.shift();
  }

  /** Compares a field with what the event has now. @param {string} path */
  receive(path) {
    this.#changed();
    if (this.#controls.busy(path)) return;
    const known = this.#event.values.knows(this.#event.name);
    const field = this.field(path);
    const theirs = valueAt(this.#event.get(), path);
    // What the page itself has written, and the stream has not brought yet, is nobody else's.
    const record = this.#event.values.record(this.#event.name);
    const { by, at } = record && same(valueAt(record.data, path), theirs) ? this.#event.state.get() : {};
    // A write under way is laid over the value that is shown. If it is not there, it has just been refused, or a newer
    // version is there already: its end, which follows, decides what the typing is based upon. To follow the value before
    // that would lose what was typed.
    const ending = this.#own().some((write) => write.has(path) && !same(write.get(path)?.mine, theirs));
    const edited = dirty(field);
    const own = same(theirs, field.mine);
    // What is not known changes nothing that is typed, and nothing that was there before anything was known.
    if (ending || !(known || (field.known && !edited))) {
      if (!known) field.conflict = undefined; // it may be nothing that this user may see
    } else if (own || !edited) {
      if (!own) {
        if (this.#stay?.path === path) this.leave();
        if (field.known) Object.assign(field, { by, at });
      }
      Object.assign(this.#cleared(path), { base: theirs, mine: theirs, conflict: undefined });
    } else if (same(theirs, field.base)) field.conflict = undefined;
    else if (!field.conflict || !same(theirs, field.conflict.theirs)) field.conflict = { theirs, by, at };
    field.known = known;
    this.#controls.show(path, field.mine);
    if (known) this.#next();
  }

  /** Writes what is edited, but for conflicts and for what is not valid: one write after the other, unless the page may be
   * closed now. Returns a promise that settles with the last write. @param {boolean} [now] */
  save(now = false) {
    this.#again = this.saving && !now;
    if (!this.#again) this.#write();
    return this.sent;
  }

  /** The last write under way. */
  get sent() {
    return this.#own().at(-1)?.sent;
  }

  #write() {
    this.refused = undefined;
    const data = this.#event.get();
    /** @type {Write} */
    const write = Object.assign(new Map(), { user: this.#event.values.session.name });
    for (const [path, field] of this.fields) {
      if (!dirty(field) || field.conflict || this.#controls.busy(path)) continue;
      // What one user has typed is never sent as another.
      const foreign = field.user && field.user !== this.#event.values.session.name;
      this.#again ||= Boolean(foreign);
      field.error =
        (foreign && `${field.user} has typed this, and is not logged in`) ||
        this.#controls.problem(path) ||
        (fits(data, path) ? undefined : "there is no object to put it into");
      if (field.error) continue;
      const { base, mine } = field;
      // What the typing is based upon is not there: it is not known again yet what the event is, or it is compared next.
      if (!same(valueAt(data, path), base)) this.#again = true;
      else {
        write.set(path, { base, mine });
        field.base = mine;
      }
    }
    this.#changed();
    if (!write.size) return;
    this.#writes.add(write);
    try {
      // It is made again if somebody else was faster. A field that they have changed, too, is then not written.
      write.sent = this.#event.update((latest) => {
        for (const [path, { base, mine }] of write) {
          const theirs = valueAt(latest, path);
          if (!fits(latest, path) || !(same(theirs, base) || same(theirs, mine))) this.#takeBack(write, path);
        }
        // Nothing is left to be sent.
        if (!write.size) throw Object.assign(new Error("somebody else has changed it in the meantime"), { status: 412 });
        return [...write].reduce((value, [path, { mine }]) => withValue(value, path.split("."), mine), latest);
      });
    } catch (error) {
      return this.#refuse(write, /** @type {BrokerError} */ (error));
    }
    write.sent.then(() => this.#end(write), (/** @type {BrokerError} */ error) => this.#refuse(write, error));
  }

  #next() {
    if (this.#again && !this.saving) this.save();
  }

  /** What is not stored is an edit again. @param {Write} write @param {string} path */
  #takeBack(write, path) {
    const own = this.#own();
    const change = /** @type {{base: any, mine: any}} */ (write.get(path));
    write.delete(path);
    // What is in the form is another user's now.
    if (!own.includes(write)) return;
    // A later write of this field has begun with what this one was to write.
    const later = own.find((each, index) => index > own.indexOf(write) && each.has(path))?.get(path);
    const field = this.field(path);
    if (!later && !dirty(field)) field.mine = change.mine;
    Object.assign(later ?? field, { base: change.base });
  }

  /** A write is over. @param {Write} write @param {boolean} [stored] */
  #end(write, stored = true) {
    const paths = [...write.keys()];
    if (!stored) paths.forEach((path) => this.#takeBack(write, path));
    this.#writes.delete(write);
    paths.forEach((path) => this.receive(path));
    this.#next();
    this.#changed();
  }

  /** @param {Write} write @param {BrokerError} error */
  #refuse(write, error) {
    // What was typed is in the form, so it need not be in the outbox, too, unless the form is closed.
    if (!this.closed) this.#event.values.outbox.discard(write.sent?.uuid);
    if (write.size && this.#own().includes(write)) {
      const path = [...write.keys()].find((each) => `${error.path}.`.startsWith(`${each}.`));
      if (path) {
        const problem = error.detail ?? error.message;
        Object.assign(this.field(path), { error: problem, refused: true });
        this.#controls.refuse(path, problem);
      } else this.refused = error;
    }
    this.#end(write, false);
  }

  /** Another user may have logged in. What was written by nobody is theirs, since it is in the form in which they are. */
  adopt() {
    const { outbox, session } = this.#event.values;
    const { name } = session;
    if (name === this.#user) return;
    // What another user has done is not to be taken back.
    if (this.#user !== null) {
      this.#done.length = this.#undone.length = 0;
      this.#stay = undefined;
    }
    this.#user = name;
    for (const write of this.#writes) {
      write.user ??= name;
      const row = outbox.of(this.#event.name).find(({ uuid }) => uuid === write.sent.uuid);
      if (row) row.user ??= name;
    }
    outbox.changed();
  }

  /** Ends a conflict with what is typed. To take this back brings what somebody else has written. @param {string} path */
  keep(path) {
    const { conflict } = this.field(path);
    if (!conflict) return;
    this.leave();
    const step = this.#done.findLast((each) => each.path === path);
    if (step) step.before = conflict.theirs;
    Object.assign(this.field(path), { base: conflict.theirs, conflict: undefined });
  }

  /** Ends a conflict with what somebody else has written. To take that back brings what was typed. @param {string} path */
  take(path) {
    const { conflict } = this.field(path);
    if (!conflict) return;
    this.leave();
    this.edit(path, conflict.theirs);
    this.leave();
  }

  /** Takes back what was typed, and is not written yet. This is a step, too, because a step always begins with what the one
   * before it has ended with, unless somebody else has changed the field. What another user has typed is not brought back. */
  reset() {
    this.leave();
    for (const [path, { base, mine, user }] of this.fields) {
      this.#put(path, base);
      if (!user || user === this.#user) this.#record({ path, before: mine, after: base });
    }
  }

  undo() {
    this.#step(this.#done, this.#undone, "after", "before");
  }

  redo() {
    this.#step(this.#undone, this.#done, "before", "after");
  }

  /** If the field has another value now than the step begins with, somebody else has changed it: a conflict.
   * @param {Step[]} from @param {Step[]} to @param {"before" | "after"} begin @param {"before" | "after"} end */
  #step(from, to, begin, end) {
    this.leave();
    const step = from.pop();
    if (!step) return;
    to.push(step);
    const field = this.field(step.path);
    if (!same(field.mine, step[begin])) field.base = step[begin];
    this.#put(step.path, step[end]);
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
  path.split(".").every((key) => {
    const fit = data == null || isObject(data);
    data = valueAt(data, key);
    return fit;
  });

/** @param {any} data @param {string[]} keys @param {any} value @returns {any} */
const withValue = (data, [key, ...keys], value) => ({ ...data, [key]: keys.length ? withValue(valueAt(data, key), keys, value) : value });
