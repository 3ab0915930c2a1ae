// A write: what is sent of it, and when.

/** @import { EventRecord, Outgoing, Time, WriteOptions } from "./types.js" */
/** @import { BrokerError } from "./server.js" */

/** Until the server has stored a write, nothing but a 412 may change it, because only then it is certain that the server
 * has not stored it under this uuid.
 * @typedef {object} Row
 * @property {string} uuid
 * @property {string} event
 * @property {any} data
 * @property {string} json  the record as it is sent
 * @property {WriteOptions} options
 * @property {string | null} user
 * @property {"queued" | "sending" | "stored" | "refused"} state
 * @property {number} tries
 * @property {BrokerError} [error]
 * @property {number} [at]  in milliseconds; then the value that is shown does not change
 * @property {number} [until]
 * @property {string} [cancels]  the uuid of the pending record in whose place this one comes
 * @property {string | null} [id]  of the stored record
 * @property {boolean} [landed]  the stream has brought it
 * @property {object} [batch]  rows of one batch are stored together, or none of them
 * @property {Promise<BrokerError | undefined>} [check]  what a validator that takes its time will say
 * @property {any} [before]  the data that it replaces; undefined if they are not known
 * @property {boolean} [step]  it was made by `undo` or `redo`
 * @property {(data: any) => any} apply  what it makes of the data that is shown without it
 * @property {(data: any) => Pick<Row, "data" | "apply">} [rebase]  makes the write anew, from a newer version
 * @property {Promise<EventRecord>} promise
 * @property {(record: EventRecord) => void} resolve
 * @property {(error: BrokerError) => void} reject */

/** Fixes what is sent. @param {Row} row */
export function compose(row) {
  const { at, until, ifLate, ifLatest } = row.options;
  const json = JSON.stringify({
    event: row.event, data: row.data, uuid: row.uuid, timestamp: seconds(at), until: seconds(until), late: ifLate, if_latest: ifLatest,
  });
  row.json = row.cancels ? `${JSON.stringify({ cancel: row.cancels })},${json}` : json;
}

/** What the page can see of it. @param {Row} row @returns {Outgoing} */
export function shown({ uuid, event, data, at, user, state, tries, error }) {
  return { uuid, event, data, at, user, state: /** @type {Outgoing["state"]} */ (state), tries, error };
}

/** @param {Time | undefined} time */
export function seconds(time) {
  if (time === undefined || typeof time === "string") return time;
  return Number(time) / 1_000;
}

/** @param {Time} time */
export function milliseconds(time) {
  const value = typeof time === "string" ? Date.parse(time) : Number(time);
  if (Number.isNaN(value)) throw new TypeError(`${time} is no time: give milliseconds, a Date, or a text such as 2030-01-01T12:00:00Z`);
  return value;
}

/** Makes uuids of version 7 (RFC 9562), each later than the one before. `crypto.randomUUID` does not exist on plain http.
 * @param {() => number} now @returns {() => string} */
export function createUuids(now) {
  let ticks = 0; // of the last uuid, 4,096 in a millisecond
  return () => {
    ticks = Math.max(ticks + 1, Math.floor(4_096 * now()));
    const time = ticks.toString(16).padStart(15, "0");
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    bytes[0] = 0x80 | (bytes[0] & 0x3f);
    const random = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return `${time.slice(0, 12)}7${time.slice(12)}${random}`.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  };
}
