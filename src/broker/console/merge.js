// Two changes of the same JSON text, put together.

import { jsonPlace, memberPath, membersByKey, sameJson } from "./difference.js";

/** @import { JsonPlace } from "./difference.js" */

/** Puts what `mine` has changed in `base` on `theirs`. Members of objects are merged, everything else is taken whole. `conflicts`
 * are the paths that both have changed, in different ways; then there is no `text`. Null is a value that is not there.
 * @param {string | null} base @param {string} mine @param {string | null} theirs
 * @returns {{text?: string, conflicts: string[]}} */
export function mergeJson(base, mine, theirs) {
  /** @type {string[]} */
  const conflicts = [];
  const text = mergePlaces("", jsonPlace(base), jsonPlace(mine), jsonPlace(theirs), conflicts);
  return conflicts.length || text === null ? { conflicts: conflicts.length ? conflicts : ["the whole value"] } : { text, conflicts };
}

/** @typedef {JsonPlace | null | undefined} MaybePlace */

/** @param {string} path @param {MaybePlace} base @param {MaybePlace} mine @param {MaybePlace} theirs @param {string[]} conflicts
 * @returns {string | null}  null: it is not there */
function mergePlaces(path, base, mine, theirs, conflicts) {
  if (alike(mine, theirs) || alike(base, mine)) return placeText(theirs);
  if (alike(base, theirs)) return placeText(mine);
  if (mine && theirs && base && [base, mine, theirs].every((each) => each.node.kind === "object")) return mergeMembers(path, base, mine, theirs, conflicts);
  conflicts.push(path || "the whole value");
  return placeText(mine);
}

/** @param {string} path @param {JsonPlace} base @param {JsonPlace} mine @param {JsonPlace} theirs @param {string[]} conflicts */
function mergeMembers(path, base, mine, theirs, conflicts) {
  const [before, ours, others] = [base, mine, theirs].map(membersByKey);
  /** @type {string[]} */
  const parts = [];
  for (const key of new Set([...others.keys(), ...ours.keys()])) {
    const text = mergePlaces(memberPath(path, key), before.get(key), ours.get(key), others.get(key), conflicts);
    const named = others.get(key) ?? ours.get(key);
    if (text !== null && named) parts.push(`${named.text.slice(named.member.start, named.member.end)}:${text}`);
  }
  return `{${parts.join(",")}}`;
}

/** @param {MaybePlace} one @param {MaybePlace} other */
const alike = (one, other) => (one && other ? sameJson(one, other) : !one === !other);

/** @param {MaybePlace} place */
const placeText = (place) => (place ? place.text.slice(place.node.start, place.node.end) : null);
