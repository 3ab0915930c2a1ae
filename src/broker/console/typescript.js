// The type of an event's data, from the JSON Schema that the server infers.

import { scriptQuoted } from "./snippets.js";

const TYPE_CHARACTERS_MAX = 4_000; // a longer type helps nobody in an example

/** @typedef {{type?: string | string[], anyOf?: JsonSchema[], items?: JsonSchema, properties?: {[key: string]: JsonSchema},
 * required?: string[], additionalProperties?: JsonSchema}} JsonSchema */

/** @type {{[type: string]: string}} */
const SCALAR_TYPES = { string: "string", integer: "number", number: "number", boolean: "boolean", null: "null" };

/** @param {JsonSchema} schema */
export function typescriptOf(schema) {
  const type = unionOf(schema, "");
  return type.length > TYPE_CHARACTERS_MAX ? "unknown" : type;
}

/** @param {JsonSchema} schema @param {string} margin @returns {string} */
function unionOf(schema, margin) {
  const members = (schema.anyOf ?? [schema]).flatMap((option) => optionTypes(option, margin));
  const union = [...new Set(members)];
  return union.includes("unknown") ? "unknown" : union.join(" | ");
}

/** @param {JsonSchema} option @param {string} margin @returns {string[]} */
function optionTypes(option, margin) {
  const { type = "unknown" } = option;
  if (type === "array") {
    const items = unionOf(option.items ?? {}, margin);
    return [items.includes(" | ") ? `(${items})[]` : `${items}[]`];
  }
  if (type === "object") return [objectType(option, margin)];
  return [type].flat().map((each) => SCALAR_TYPES[each] ?? "unknown");
}

/** @param {JsonSchema} schema @param {string} margin */
function objectType({ properties = {}, required = [], additionalProperties = {} }, margin) {
  const keys = Object.keys(properties);
  if (!keys.length) return `{ [key: string]: ${unionOf(additionalProperties, margin)} }`;
  const deeper = `${margin}  `;
  const lines = keys.map((key) => `${deeper}${typeKey(key)}${required.includes(key) ? "" : "?"}: ${unionOf(properties[key], deeper)};\n`);
  return `{\n${lines.join("")}${margin}}`;
}

/** @param {string} key */
const typeKey = (key) => (/^[A-Za-z_$][\w$]*$/.test(key) ? key : scriptQuoted(key));
