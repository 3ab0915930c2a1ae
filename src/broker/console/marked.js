// What somebody has searched, highlighted in a text.

import { h } from "./h.js";

/** The words of a search, in lower case. @param {string} search */
export function wordsOf(search) {
  return search.toLowerCase().split(/\s+/).filter(Boolean);
}

/** Whether a name has all words; upper and lower case are not distinguished. @param {string} name @param {string[]} words */
export function hasWords(name, words) {
  const lower = name.toLowerCase();
  return words.every((each) => lower.includes(each));
}

/** Where the words are in a text: from, and up to where, without overlaps. @param {string} text @param {string[]} words
 * @returns {[number, number][]} */
export function placesOf(text, words) {
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return []; // a few letters change their number with their case
  const isFound = new Uint8Array(text.length);
  for (const word of words)
    for (let at = lower.indexOf(word); word && at >= 0; at = lower.indexOf(word, at + word.length)) isFound.fill(1, at, at + word.length);
  /** @type {[number, number][]} */
  const places = [];
  for (let from = isFound.indexOf(1); from >= 0; ) {
    const end = isFound.indexOf(0, from);
    const to = end < 0 ? text.length : end;
    places.push([from, to]);
    from = isFound.indexOf(1, to);
  }
  return places;
}

/** @param {string} text @param {string[]} words */
export function marked(text, words) {
  /** @type {(string | HTMLElement)[]} */
  const parts = [];
  let done = 0;
  for (const [from, to] of placesOf(text, words)) {
    parts.push(text.slice(done, from), h("mark", null, text.slice(from, to)));
    done = to;
  }
  return [...parts, text.slice(done)].filter(Boolean);
}
