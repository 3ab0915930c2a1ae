// The versions of an event, as the server sends them. Their data stay text, so that no number loses digits.

import { readJson } from "./json.js";

/** @import { JsonNode } from "./json.js" */

/** A record (docs/http.md), whose `data` are JSON text. Times are in seconds.
 * @typedef {object} VersionRecord
 * @property {string} uuid
 * @property {string} event
 * @property {string} data
 * @property {string | null} id
 * @property {string | null} [user]
 * @property {number} timestamp
 * @property {number} [until]
 * @property {string} [ends]
 * @property {boolean} published
 * @property {boolean} cancelled
 * @property {string} [reason]
 * @property {number} inserted_at
 * @property {number | null} published_at */

/** The records of a response. @param {string} text @returns {VersionRecord[]} */
export function readVersions(text) {
  return rootOf(text).items.map((node) => versionAt(text, node));
}

/** The record of a response. @param {string} text */
export const readVersion = (text) => versionAt(text, rootOf(text));

/** The newest version in a refusal (412); null if the event was never inserted. @param {string} text */
export function latestIn(text) {
  const member = rootOf(text).members.find(({ key }) => key === "latest");
  return member?.value.kind === "object" ? versionAt(text, member.value) : null;
}

/** @param {string} text */
function rootOf(text) {
  const { node, problem } = readJson(text, Infinity);
  if (!node) throw new Error(`the response is not Broker's: ${problem?.message}`);
  return node;
}

/** @param {string} text @param {JsonNode} node @returns {VersionRecord} */
function versionAt(text, node) {
  /** @type {{[name: string]: any}} */
  const version = {};
  for (const { key, value } of node.members) {
    const raw = text.slice(value.start, value.end);
    version[key] = key === "data" ? raw : JSON.parse(raw);
  }
  return /** @type {VersionRecord} */ (version);
}

/** What has become of a version. @param {VersionRecord} version @param {VersionRecord | null} latest  the one that holds now */
export function fateOf(version, latest) {
  if (version.cancelled) return "cancelled";
  if (!version.published) return "pending";
  if (version.id === null) return "log only";
  if (version.data !== "null") return version.uuid === latest?.uuid ? "current" : "earlier";
  return version.ends ? "ended" : "removed";
}

/** @param {{user?: string | null} | null | undefined} version */
export const authorOf = (version) => version?.user ?? "Somebody";

/** When it was published, or is due, in milliseconds. @param {VersionRecord} version */
export const timeOf = (version) => 1_000 * (version.published_at ?? version.timestamp);

/** Its end in milliseconds, if that is still to come. @param {VersionRecord} version @param {number} now */
export const laterEnd = ({ until = 0 }, now) => (1_000 * until > now ? 1_000 * until : null);
