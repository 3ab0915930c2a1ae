// The history: what this client has written to each event, so that it can be taken back.

/** @import { Row } from "./write.js" */

const EVENTS_MAX = 1_000; // that can be taken back to; the one that was written least recently is forgotten
const STEPS_MAX = 100; // of one event

/** The writes of one event that can be taken back. The first `done` of them are in effect, and the others were taken back.
 * They are rows, whose data may still change if somebody else is faster. `head` is the newest write: a write, or a step
 * back or forth.
 * @typedef {{steps: Row[], done: number, head: Row}} Past */

export class History {
  /** @type {Map<string, Past>} */
  #all = new Map();

  /** A write. If it is none of `undo` or `redo`, what was taken back cannot be written again. @param {Row} row */
  add(row) {
    const past = this.#all.get(row.event) ?? { steps: [], done: 0, head: row };
    this.#all.delete(row.event);
    this.#all.set(row.event, past);
    if (this.#all.size > EVENTS_MAX) this.#all.delete(this.#all.keys().next().value ?? "");
    if (row.at === undefined) past.head = row;
    if (row.cancels) {
      // A pending write has another time now. To take it back withdraws it, whatever its time is.
      const index = past.steps.findIndex((each) => each.uuid === row.cancels);
      if (index >= 0) past.steps[index] = row;
    } else if (!row.step) {
      past.steps = [...past.steps.slice(0, past.done), row].slice(-STEPS_MAX);
      past.done = past.steps.length;
    } else if (row.at !== undefined) past.steps[past.done - 1] = row; // in the place of the one that was cancelled
  }

  /** A write was refused or withdrawn, so it is nothing that can be taken back. @param {Row} row */
  refused(row) {
    const past = this.#all.get(row.event);
    if (!past) return;
    if (row.step && row.at === undefined) this.#all.delete(row.event); // somebody else has changed the event since
    const index = past.steps.indexOf(row);
    if (index < 0 || index >= past.done) return;
    past.steps.splice(index, 1);
    past.done--;
    const [previous, next] = past.steps.slice(Math.max(0, index - 1), index + 1);
    if (next && row.at === undefined) next.before = row.before;
    if (past.head === row && previous) past.head = previous;
  }

  /** Takes a step back, and returns the write that is to be taken back, if there is one. @param {string} event */
  back(event) {
    const past = this.#all.get(event);
    const row = past?.steps[past.done - 1];
    if (!past || !row) return undefined;
    if (row.at === undefined) {
      const next = past.steps.slice(past.done).find((each) => each.at === undefined);
      // What was there before is unknown, or somebody else has written between two writes of this client.
      if (row.before === undefined || (next && !same(next.before, row.data))) return undefined;
    }
    past.done--;
    return row;
  }

  /** Takes a step forth, and returns the write that is to be written again, if there is one. @param {string} event */
  forth(event) {
    const past = this.#all.get(event);
    const row = past?.steps[past.done];
    if (past && row) past.done++;
    return row;
  }

  /** The uuid of the newest write. @param {string} event */
  head(event) {
    return this.#all.get(event)?.head.uuid;
  }

  /** What was written belongs to another user. */
  forget() {
    this.#all.clear();
  }
}

/** @param {any} one @param {any} other */
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
