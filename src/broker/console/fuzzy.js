// The search among commands: the letters that somebody types are in the name, in this order, but not always side by side.

/** Looks for a text in a name. The score is higher if the letters stand side by side, or at the beginnings of words.
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
  const at = found(letters, lower, true) ?? found(letters, lower, false);
  return at && { score: at.filter((each, index) => beginsWord(lower, each) || each === at[index - 1] + 1).length * 4 - at[0], at };
}

/** @param {string} letters @param {string} name @param {boolean} words  whether beginnings of words are preferred */
function found(letters, name, words) {
  const at = [];
  for (const letter of letters) {
    const next = (at.at(-1) ?? -1) + 1;
    let place = name.indexOf(letter, next);
    if (words && place > next) for (let other = place; other >= 0; other = name.indexOf(letter, other + 1)) if (beginsWord(name, other)) {
      place = other;
      break;
    }
    if (place < 0) return undefined;
    at.push(place);
  }
  return at;
}

/** @param {string} name @param {number} place */
const beginsWord = (name, place) => place === 0 || /[^\p{L}\p{N}]/u.test(name[place - 1]);
