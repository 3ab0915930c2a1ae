// What the programs have in common: their arguments, and what they print.

/** The stream's address. */
export const url = process.argv[2] ?? "";

/** The id to resume from; empty for a first connection. */
export const savedId = process.argv[3] ?? "";

/** The same in the address, for libraries that cannot send a header of their own with the first request. */
export const urlWithId = savedId ? `${url}${url.includes("?") ? "&" : "?"}last_event_id=${savedId}` : url;

/** An EventSource has no listener for all events: these names are listened to. @type {string[]} */
const names = JSON.parse(process.env.EVENTS ?? "[]");

/**
 * Prints what the library delivered.
 * @param {string | undefined} event
 * @param {string | undefined} data
 * @param {string | undefined} id
 */
export function deliver(event, data, id) {
  process.stdout.write(JSON.stringify({ event: event ?? "", data: data ?? "", id: id ?? "" }) + "\n");
}

/** @param {any} error an Error, or an event that tells of one */
export function complain(error) {
  process.stderr.write(`${error?.name ?? error?.type}: ${error?.message ?? ""}\n`);
}

/**
 * Listens with anything that has an EventSource's interface.
 * @param {{
 *   addEventListener(name: string, listener: (event: any) => void): void,
 *   onerror: ((event: any) => void) | null,
 * }} source
 */
export function listen(source) {
  for (const name of ["message", ...names])
    source.addEventListener(name, (event) => deliver(event.type, event.data, event.lastEventId));
  source.onerror = complain;
}
