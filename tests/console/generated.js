// Random texts of JSON, the same in each run.

const STRINGS = ["", "a", "b", "key", "é", "😀", "\u2028", "</script>", '"', "\\", "\n", "a b", "__proto__", "1", "\ud800"];
const NUMBERS = ["0", "-0", "1", "1.0", "12345678901234567890", "1e5", "1E+5", "-1.5e-7", "0.1", "1e999"];
const SPACES = ["", "", "", " ", "\n", "\t", "\r\n  "];
const WRONG = [",", ":", "{", "}", "[", "]", '"', "\\", "'", "0", ".", "-", "e", "x", "true", "null", "//", "\u00a0", "\n", "\u0001", " ", "\\u00"];

/** Numbers from 0 to 1 that depend on the seed alone (mulberry32). @param {number} seed @returns {() => number} */
export function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @template T @param {() => number} random @param {readonly T[]} all @returns {T} */
export const oneOf = (random, all) => all[Math.floor(random() * all.length)];

/** @param {() => number} random */
function string(random) {
  let text = JSON.stringify(oneOf(random, STRINGS) + oneOf(random, STRINGS));
  if (random() < 0.2) text = text.replace(/[a-z](?="$)/, (letter) => `\\u00${letter.charCodeAt(0).toString(16)}`);
  return random() < 0.1 ? `"\\u0041\\/${text.slice(1)}` : text;
}

/** A valid text, with white space here and there. @param {() => number} random @returns {string} */
export function anyJson(random, depth = 0) {
  const space = () => oneOf(random, SPACES);
  const list = (/** @type {() => string} */ item) => Array.from({ length: Math.floor(random() * 4) }, () => space() + item() + space()).join(",") || space();
  const kind = random() * (depth > 3 ? 0.6 : 1);
  if (kind < 0.25) return oneOf(random, NUMBERS);
  if (kind < 0.45) return string(random);
  if (kind < 0.6) return oneOf(random, ["true", "false", "null"]);
  const inner = () => anyJson(random, depth + 1);
  if (kind < 0.8) return `[${list(inner)}]`;
  return `{${list(() => `${string(random)}${space()}:${space()}${inner()}`)}}`;
}

/** A text in which something was added, taken away or exchanged, some times. @param {() => number} random @param {string} text @param {number} times */
export function mutated(random, text, times) {
  for (let round = 0; round < times; round++) {
    const at = Math.floor(random() * (text.length + 1));
    const behind = at + Math.floor(random() * 3);
    text = text.slice(0, at) + (random() < 0.6 ? oneOf(random, WRONG) : "") + text.slice(random() < 0.5 ? at : behind);
  }
  return text;
}
