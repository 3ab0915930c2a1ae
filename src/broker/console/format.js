// The text of a JSON value, in one line or in many.

/** @import { JsonNode } from "./json.js" */

/** The text of a value without white space outside of strings. @param {string} text @param {JsonNode} node */
export const compactJson = (text, node) => writtenJson(text, node, null);

/** The text of a value in lines that are indented by two spaces. The order, the text of numbers and the escapes stay.
 * @param {string} text @param {JsonNode} node */
export const formatJson = (text, node) => writtenJson(text, node, "");

/** @param {string} text @param {JsonNode} root @param {string | null} margin  null: in one line */
function writtenJson(text, root, margin) {
  /** @type {string[]} */
  const parts = [];
  /** @param {JsonNode} node @param {string | null} margin */
  const write = (node, margin) => {
    const deeper = margin === null ? null : `${margin}  `;
    const children = node.kind === "object" ? node.members : node.items;
    const [open, close] = node.kind === "object" ? "{}" : "[]";
    if (!children.length) {
      parts.push(node.kind === "object" || node.kind === "array" ? open + close : text.slice(node.start, node.end));
      return;
    }
    children.forEach((child, index) => {
      parts.push(index ? "," : open, deeper === null ? "" : `\n${deeper}`);
      if ("value" in child) parts.push(text.slice(child.start, child.end), deeper === null ? ":" : ": ");
      write("value" in child ? child.value : child, deeper);
    });
    parts.push(margin === null ? "" : `\n${margin}`, close);
  };
  write(root, margin);
  return parts.join("");
}
