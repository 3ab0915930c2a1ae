// The search among commands: what somebody types is a part of the name, or the beginnings of its words, in their order.

/** Looks for a text in a name. The score is higher if it is a part of the name.
 * @param {string} text @param {string} name
 * @returns {{score: number, at: number[]} | undefined}  `at`: where in the name its letters are */
export function fuzzy(text, name) {
  const letters = text.toLowerCase().replace(/\s+/g, "");
  const lower = name.toLowerCase();
  // A few letters change their number with their case; then there is no place in the name to show.
  if (lower.length !== name.length) return lower.includes(letters) ? { score: 0, at: [] } : undefined;
  const whole = lower.indexOf(text.toLowerCase().trim());
  if (whole >= 0) {
    const length = text.trim().length;
    return { score: 100 + (beginsWord(lower, whole) ? 50 : 0) - whole, at: Array.from({ length }, (_, index) => whole + index) };
  }
  const at = found(letters, lower);
  return at && { score: -at[0], at };
}

/** @param {string} letters @param {string} name */
function found(letters, name) {
  /** @type {number[]} */
  const at = [];
  for (const letter of letters) {
    const next = (at.at(-1) ?? -1) + 1;
    let place = name.indexOf(letter, next);
    while (place >= 0 && place !== next && !beginsWord(name, place)) place = name.indexOf(letter, place + 1);
    if (place < 0) return undefined;
    at.push(place);
  }
  return at;
}

/** @param {string} name @param {number} place */
const beginsWord = (name, place) => place === 0 || /[^\p{L}\p{N}]/u.test(name[place - 1]);
