// Changes of a value: JSON Merge Patches (RFC 7396).

/** The data as the server will have them, whatever the page does with its own object. @param {any} data */
export function copied(data) {
  const json = JSON.stringify(data);
  if (json === undefined) throw new TypeError(`${typeof data} cannot be stored, because JSON has no such value; null removes an event`);
  return JSON.parse(json);
}

/** @param {any} value */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Applies a JSON Merge Patch (RFC 7396). @param {any} data @param {any} changes @returns {any} */
export function merge(data, changes) {
  if (!isObject(changes)) return changes;
  const merged = new Map(Object.entries(isObject(data) ? data : {}));
  for (const [key, value] of Object.entries(changes))
    if (value === null) merged.delete(key);
    else merged.set(key, merge(merged.get(key), value));
  return Object.fromEntries(merged);
}

/** The merge patch that leads from one value to another; undefined if there is none, because one of them is no object, or
 * a field becomes `null`. @param {any} before @param {any} after @returns {any} */
export function difference(before, after) {
  if (!isObject(before) || !isObject(after)) return undefined;
  /** @type {[string, any][]} */
  const changes = [];
  for (const key of Object.keys(before)) if (!Object.hasOwn(after, key)) changes.push([key, null]);
  for (const [key, value] of Object.entries(after)) {
    const old = Object.hasOwn(before, key) ? before[key] : undefined;
    if (JSON.stringify(old) === JSON.stringify(value)) continue;
    if (hasNull(value)) return undefined;
    const inner = isObject(old) && isObject(value) ? difference(old, value) : value;
    if (inner === undefined) return undefined;
    changes.push([key, inner]);
  }
  return Object.fromEntries(changes);
}

/** @param {any} value @returns {boolean} */
const hasNull = (value) => value === null || (isObject(value) && Object.values(value).some(hasNull));
