// A reader of JSON that knows where everything is, so that it can say where a mistake is, and so that the text of a value
// is kept as it was written: 1.0 stays 1.0, and a number of 20 digits keeps all of them.

/** What the server permits for data, which are one level of a record (DEPTH_MAX of raw_json.py). */
export const JSON_DEPTH_MAX = 255;
const WARNINGS_MAX = 20;

const JSON_SPACE = /[ \t\n\r]*/y;
const JSON_STRING = /"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\x00-\x1f]*)*"/y;
const JSON_NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])/y;
const JSON_CONSTANT = /(?:true|false|null)(?![\w$])/y;
const BARE_WORD = /[^\s,:[\]{}"]+/y;

/** A value, and where it is in the text: `text.slice(start, end)`. `end` of a string includes its quotes.
 * @typedef {object} JsonNode
 * @property {"object" | "array" | "string" | "number" | "constant"} kind
 * @property {number} start
 * @property {number} end
 * @property {JsonMember[]} members  of an object; otherwise empty
 * @property {JsonNode[]} items  of an array; otherwise empty
 *
 * @typedef {{key: string, start: number, end: number, value: JsonNode}} JsonMember  `start` and `end` are of the name
 *
 * What is wrong or doubtful, with the place in the text; lines and columns are counted from 1.
 * @typedef {{at: number, line: number, column: number, message: string}} JsonProblem */

/** Reads a text. Either `node` or `problem` is there.
 * @param {string} text @param {number} [depth]
 * @returns {{node?: JsonNode, problem?: JsonProblem, warnings: JsonProblem[]}} */
export function readJson(text, depth = JSON_DEPTH_MAX) {
  const reader = new JsonReader(text, depth);
  try {
    const node = reader.whole();
    return { node, warnings: reader.doubts.map(([at, message]) => problemAt(text, at, message)) };
  } catch (error) {
    if (error instanceof JsonMistake) return { problem: problemAt(text, error.at, error.message), warnings: [] };
    throw error;
  }
}

class JsonMistake extends Error {
  /** @param {number} at @param {string} message */
  constructor(at, message) {
    super(message);
    this.at = at;
  }
}

/** @param {string} text @param {number} at @param {string} message @returns {JsonProblem} */
function problemAt(text, at, message) {
  const { line, column } = placeIn(text, at);
  return { at, line, column, message: `line ${line}, column ${column}: ${message}` };
}

/** @param {string} text @param {number} at */
function placeIn(text, at) {
  const before = text.slice(0, at);
  // Characters are counted, not the halves of which JavaScript makes some of them.
  const column = [...before.slice(before.lastIndexOf("\n") + 1)].length + 1;
  return { line: before.split("\n").length, column };
}

class JsonReader {
  #at = 0;
  /** @type {[number, string][]} */
  doubts = [];

  /** @param {string} text @param {number} depth */
  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
  }

  whole() {
    this.#skip();
    if (this.#at === this.text.length) this.#fail(this.#at, 'there is nothing yet; write any JSON, such as {"percent": 20}, 7 or "text"');
    const node = this.#value(0);
    this.#skip();
    if (this.#at < this.text.length) this.#fail(this.#at, `the value ends before this; ${quoted(this.#word())} is too much`);
    return node;
  }

  /** @param {number} at @param {string} message @returns {never} */
  #fail(at, message) {
    throw new JsonMistake(at, message);
  }

  #skip() {
    JSON_SPACE.lastIndex = this.#at;
    JSON_SPACE.test(this.text);
    this.#at = JSON_SPACE.lastIndex;
    if (this.text[this.#at] === "/" && "/*".includes(this.text[this.#at + 1] ?? " ")) this.#fail(this.#at, "JSON has no comments");
  }

  /** @param {RegExp} pattern  a sticky one. Returns whether it matches here, and goes on behind it. */
  #take(pattern) {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.text)) return false;
    this.#at = pattern.lastIndex;
    return true;
  }

  #word() {
    BARE_WORD.lastIndex = this.#at;
    return BARE_WORD.exec(this.text)?.[0] ?? this.text[this.#at] ?? "";
  }

  /** @param {number} depth @returns {JsonNode} */
  #value(depth) {
    const start = this.#at;
    const first = this.text[start];
    if (first === "{" || first === "[") {
      if (depth === this.depth) this.#fail(start, `this is nested more than ${this.depth} levels deep, which the server refuses`);
      return first === "{" ? this.#object(depth + 1) : this.#array(depth + 1);
    }
    if (first === '"') return this.#string();
    if (this.#take(JSON_NUMBER)) return leafNode("number", start, this.#at);
    if (this.#take(JSON_CONSTANT)) return leafNode("constant", start, this.#at);
    return this.#fail(start, noValue(first, this.#word()));
  }

  /** @param {number} depth @returns {JsonNode} */
  #array(depth) {
    const start = this.#at++;
    /** @type {JsonNode[]} */
    const items = [];
    for (this.#skip(); this.text[this.#at] !== "]" || items.length; this.#skip()) {
      items.push(this.#value(depth));
      if (this.#ends(start, "]")) break;
    }
    return { kind: "array", start, end: ++this.#at, members: [], items };
  }

  /** @param {number} depth @returns {JsonNode} */
  #object(depth) {
    const start = this.#at++;
    /** @type {JsonMember[]} */
    const members = [];
    const keys = new Set();
    for (this.#skip(); this.text[this.#at] !== "}" || members.length; this.#skip()) {
      const member = this.#member(start, depth);
      if (keys.has(member.key) && this.doubts.length < WARNINGS_MAX)
        this.doubts.push([member.start, `the name ${quoted(member.key)} is there twice in this object; readers see the last one`]);
      keys.add(member.key);
      members.push(member);
      if (this.#ends(start, "}")) break;
    }
    return { kind: "object", start, end: ++this.#at, members, items: [] };
  }

  /** @param {number} begin @param {number} depth @returns {JsonMember} */
  #member(begin, depth) {
    const first = this.text[this.#at];
    if (first === undefined) this.#unclosed(begin, "}");
    if (first !== '"') {
      const word = this.#word();
      this.#fail(this.#at, /^[\w$'‘’“”]/.test(word) ? `a name needs double quotes: ${quoted(word.replace(/['‘’“”]/g, ""))}` : `a name in double quotes is missing before ${quoted(word)}`);
    }
    const { start, end } = this.#string();
    const raw = this.text.slice(start, end);
    this.#skip();
    if (this.text[this.#at] !== ":") this.#fail(this.#at, `a colon is missing behind the name ${quoted(JSON.parse(raw))}`);
    this.#at++;
    this.#skip();
    return { key: raw.includes("\\") ? JSON.parse(raw) : raw.slice(1, -1), start, end, value: this.#value(depth) };
  }

  /** Goes on to the next member or element. Returns whether there is none. @param {number} begin @param {"}" | "]"} close */
  #ends(begin, close) {
    this.#skip();
    const next = this.text[this.#at];
    const what = close === "}" ? "members" : "elements";
    if (next === close) return true;
    if (next === undefined) this.#unclosed(begin, close);
    if (next !== ",") this.#fail(this.#at, /[\]}]/.test(next) ? `${quoted(close)} is expected here, not ${quoted(next)}` : `a comma is missing between two ${what}`);
    const comma = this.#at++;
    this.#skip();
    if (this.text[this.#at] === close) this.#fail(comma, `this comma is too much, because no ${what.slice(0, -1)} follows`);
    return false;
  }

  /** @param {number} begin @param {"}" | "]"} close @returns {never} */
  #unclosed(begin, close) {
    const { line, column } = placeIn(this.text, begin);
    return this.#fail(this.#at, `${quoted(close)} is missing: ${close === "}" ? "the object" : "the array"} begins in line ${line}, column ${column}`);
  }

  /** @returns {JsonNode} */
  #string() {
    const start = this.#at;
    if (this.#take(JSON_STRING)) return leafNode("string", start, this.#at);
    // What comes up to the mistake is right.
    for (let at = start + 1; at < this.text.length; at++) {
      const each = this.text[at];
      if (each === "\n" || each === "\r") this.#fail(at, "a string ends in its line: a closing quote is missing, or write \\n for a line break");
      if (each < " ") this.#fail(at, `a string cannot have this control character; write ${each === "\t" ? "\\t" : JSON.stringify(each).slice(1, -1)}`);
      if (each !== "\\") continue;
      const escape = /^\\(?:["\\/bfnrt]|u[\da-fA-F]{4})/.exec(this.text.slice(at, at + 6));
      if (!escape) this.#fail(at, this.text[at + 1] === "u" ? "\\u needs four digits from 0 to 9 and a to f" : "this is no escape of JSON; write \\\\ for a backslash");
      at += escape[0].length - 1;
    }
    return this.#fail(start, "this string has no closing quote");
  }
}

/** @param {"string" | "number" | "constant"} kind @param {number} start @param {number} end @returns {JsonNode} */
const leafNode = (kind, start, end) => ({ kind, start, end, members: [], items: [] });

/** @param {string | undefined} first @param {string} word */
function noValue(first, word) {
  if (first === undefined) return "a value is missing at the end";
  if (",]}:".includes(first)) return `a value is missing before ${quoted(first)}`;
  if ("'‘’“”`".includes(first)) return `strings need the plain double quote ("), not ${first}`;
  if (/^[+-]?[.\d]/.test(word)) return wrongNumber(word);
  const constant = word.toLowerCase();
  if (["true", "false", "null"].includes(constant)) return `write ${constant} in lower case`;
  if (["none", "nil", "undefined"].includes(constant)) return `JSON has no ${shortened(word)}; write null`;
  if (/^[+-]?(?:nan|inf(?:inity)?)$/.test(constant)) return `JSON has no ${word}; write null, or a string`;
  return `${quoted(word)} is no value; a text needs double quotes`;
}

/** @param {string} word */
function wrongNumber(word) {
  if (word[0] === "+") return "a number has no plus sign in front";
  if (/^-?0[xob]/i.test(word)) return "numbers are decimal in JSON";
  if (/^-?0\d/.test(word)) return "a number has no zero in front";
  if (/^-?\./.test(word)) return "a number needs a digit before the point, such as 0.5";
  if (/^-?\d+\.(?!\d)/.test(word)) return "a number needs a digit behind the point, such as 1.0";
  return `${quoted(word)} is no number; a text needs double quotes`;
}

/** @param {string} word */
const shortened = (word) => (word.length > 30 ? `${word.slice(0, 30)}…` : word);

/** @param {string} word */
const quoted = (word) => JSON.stringify(shortened(word));
