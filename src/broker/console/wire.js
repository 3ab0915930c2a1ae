// What is on the wire: a frame as its lines, and what Broker's own events mean.

import { formatJson } from "./format.js";
import { JSON_DEPTH_MAX, readJson } from "./json.js";

/** What the inspector shows in a row: a frame, a line that belongs to no frame, or a note of the inspector's own.
 * @typedef {object} WireEntry
 * @property {number} number  counts the entries
 * @property {number} time  when it came, in milliseconds by the server's clock
 * @property {"frame" | "line" | "note"} kind
 * @property {string} [id]
 * @property {string} [event]
 * @property {string} [data]  of a line or a note, its text
 * @property {string} [mark]  what this frame is the answer to */

const WIRE_SHOWN = 300; // characters of data in a row
const WIRE_EXPANDED = 100_000; // characters of data that are formatted and shown

const WIRE_MEANINGS = new Map([
  ["$ready", "The state is complete up to this id, and what follows is live."],
  ["$skipped", "This stream was too far behind: versions in between are left out, and the newest one of each event that has changed follows. “positions” says how many were published meanwhile."],
  ["$reset", "What was received before does not count any more, and the whole state follows."],
  ["$login", "The token is not valid any more, so this stream ends."],
  ["$passed", "These positions are Broker's own records (rules, and changes of users), which no stream shows. They count as received."],
  ["$pending", "The list of what is pending may have changed."],
  ["$heartbeat", "The stream is alive."],
]);

// The first fields of a record frame are always the same ones.
const WIRE_EVENT = /^\{"id":"[^"]*","uuid":"[^"]*","event":("(?:[^"\\]|\\.)*")/;

/** The name that a row shows. @param {WireEntry} entry */
export function wireName({ kind, event, data }) {
  if (kind !== "frame") return "";
  if (event !== undefined) return event;
  const name = WIRE_EVENT.exec(data ?? "")?.[1];
  return name ? JSON.parse(name) : "";
}

/** The beginning of the data. @param {WireEntry} entry */
export function wireBrief({ kind, data = "" }) {
  const text = data.length > WIRE_SHOWN ? `${data.slice(0, WIRE_SHOWN)}…` : data;
  return kind === "line" && text === ":" ? ": (a heartbeat)" : text;
}

/** What one may want to know about it. @param {WireEntry} entry */
export function wireMeaning({ kind, event, data }) {
  if (kind === "note") return "";
  if (kind === "line")
    return data === ":" ? "A comment, so that nobody takes the silence for a dead connection." : "How many milliseconds a browser waits before it connects again, if the connection is lost.";
  if (data === undefined) return "An id alone: this stream shows only a part, and the position has moved on.";
  return WIRE_MEANINGS.get(event ?? "") ?? "";
}

/** The lines as they came. @param {WireEntry} entry */
export function wireText({ kind, id, event, data }) {
  if (kind === "note") return `# ${data}\n`;
  if (kind === "line") return `${data}\n`;
  const lines = [id !== undefined && `id: ${id}`, event !== undefined && `event: ${event}`, data !== undefined && `data: ${data}`];
  return `${lines.filter(Boolean).join("\n")}\n\n`;
}

/** The data in many lines, cut off where it is too much to be shown. @param {WireEntry} entry */
export function wireFormatted({ kind, data = "" }) {
  if (kind !== "frame") return data;
  if (data.length > WIRE_EXPANDED) return `${data.slice(0, WIRE_EXPANDED)}… (${data.length} characters; copy the frame to have all of them)`;
  const { node } = readJson(data, 1 + JSON_DEPTH_MAX);
  return node ? formatJson(data, node) : data;
}

/** Whether a text is in the name or in the data; upper and lower case are not distinguished.
 * @param {WireEntry} entry @param {string} text  in lower case */
export function wireMatches(entry, text) {
  return !text || wireName(entry).toLowerCase().includes(text) || (entry.data ?? "").toLowerCase().includes(text);
}

/** About how many bytes an entry takes. @param {WireEntry} entry */
export const wireSize = ({ id = "", event = "", data = "" }) => 2 * (id.length + event.length + data.length) + 100;
