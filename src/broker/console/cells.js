// The cells of one row of the table.

import { h, replace } from "./h.js";
import { marked } from "./marked.js";
import { eventRoute } from "./router.js";
import { ago } from "./times.js";

/** @import { Row } from "./row.js" */

/** What the marks mean, for screen readers and tooltips. @type {{[mark: string]: string}} */
const CELL_NOTES = { added: "Only at this time: ", changed: "Differs from now: " };

/** The elements of one row, and what they show.
 * @typedef {{element: HTMLElement, link: HTMLAnchorElement, name: HTMLElement, note: HTMLElement, value: HTMLElement,
 *   when: HTMLElement, who: HTMLElement, row: Row | null, words: string[], version: number, index: number,
 *   flash: Animation | null}} Cells */

/** @param {number} number @param {HTMLElement} body @returns {Cells} */
export function makeCells(number, body) {
  const name = h("bdi");
  const link = h("a", { class: "events-name mono", tabindex: "-1", draggable: false }, name);
  const note = h("span", { class: "visually-hidden" });
  const value = h("bdi", { class: "mono" });
  const [when, who] = [h("span", { class: "events-when", role: "gridcell" }), h("bdi", { class: "events-who", role: "gridcell" })];
  const element = h("div", { class: "events-row", role: "row", id: `events-row-${number}` },
    h("span", { class: "events-cell", role: "gridcell" }, link), h("span", { class: "events-value", role: "gridcell" }, note, value), when, who);
  body.append(element);
  return { element, link, name, note, value, when, who, row: null, words: [], version: -1, index: -1, flash: null };
}

/** @param {Cells} cells @param {Row} row @param {{missing: string, words: string[]}} shown @param {number} now */
export function fillCells(cells, row, { missing, words }, now) {
  const { element, link, name, note, value, when, who } = cells;
  if (cells.row?.name !== row.name || cells.words !== words) {
    link.href = eventRoute(row.name);
    replace(name, marked(row.name, words));
  }
  if (cells.row?.name !== row.name) cells.flash?.cancel(); // it was of another event
  cells.row = row;
  cells.words = words;
  cells.version = row.version;
  const isMissing = row.mark === "missing";
  setText(value, isMissing ? missing : row.value);
  setText(note, CELL_NOTES[row.mark] ?? "");
  setText(when, whenText(row, now));
  setText(who, isMissing ? "" : (row.user ?? ""));
  element.classList.toggle("events-removed", row.removed);
  element.dataset.mark = row.mark;
}

/** @param {Row} row @param {number} now */
export function whenText(row, now) {
  if (row.mark === "missing") return "";
  return row.removed ? `removed ${ago(row.at, now)}` : ago(row.at, now);
}

/** @param {HTMLElement} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
