// Elements without markup: what comes from data only ever becomes the text of a node, so nothing of it can run.

/** @import { Child, Props } from "./types.js" */

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element. A property of the element is set (`value`, `checked`, `onclick`), everything else is an attribute
 * (`class`, `aria-label`); what is null, undefined or false is left out. A child that is no node becomes text.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {Props | null} [props] @param {Child[]} children @returns {HTMLElementTagNameMap[Tag]} */
export function h(tag, props, ...children) {
  return /** @type {HTMLElementTagNameMap[Tag]} */ (fill(document.createElement(tag), props, children));
}

/** The same for a drawing. @param {string} tag @param {Props | null} [props] @param {Child[]} children */
export function svg(tag, props, ...children) {
  return /** @type {SVGElement} */ (fill(document.createElementNS(SVG, tag), props, children));
}

/** Replaces what an element contains. @param {Element} element @param {Child[]} children */
export function replace(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** @param {any} element @param {Props | null | undefined} props @param {Child[]} children */
function fill(element, props, children) {
  element.append(...nodes(children)); // before `value` is set, which chooses one of the options of a select
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined) continue;
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("on") || isProperty(element, name)) element[name] = value;
    else if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

/** @param {any} element @param {string} name */
const isProperty = (element, name) => name in element && !(element instanceof SVGElement) && name !== "list" && name !== "form";

/** @param {Child[]} children @returns {(Node | string)[]} */
function nodes(children) {
  const shown = /** @type {any[]} */ (children).flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  return shown.map((child) => (child instanceof Node ? child : String(child)));
}
