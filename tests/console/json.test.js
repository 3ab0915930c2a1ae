// The reader of JSON: it accepts what JSON.parse accepts, says where a mistake is, and keeps what was written.

import assert from "node:assert/strict";
import { test } from "node:test";
import { compactJson, formatJson } from "../../src/broker/console/format.js";
import { readJson } from "../../src/broker/console/json.js";
import { anyJson, mutated, seeded } from "./generated.js";

/** @param {string} text */
const message = (text) => readJson(text).problem?.message;

/** @param {string} text */
function node(text) {
  const result = readJson(text);
  assert.ok(result.node, `${result.problem?.message}: ${text}`);
  return result.node;
}

/** @param {string} text */
const isValid = (text) => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

/** @type {[string, string][]} */
const MISTAKES = [
  ["", 'line 1, column 1: there is nothing yet; write any JSON, such as {"percent": 20}, 7 or "text"'],
  ['{\n  "a": 1\n  "b": 2\n}', "line 3, column 3: a comma is missing between two members"],
  ["[1 2]", "line 1, column 4: a comma is missing between two elements"],
  ['{"a": 1,}', "line 1, column 8: this comma is too much, because no member follows"],
  ["[1,\n]", "line 1, column 3: this comma is too much, because no element follows"],
  ['{"a" 1}', 'line 1, column 6: a colon is missing behind the name "a"'],
  ["{a: 1}", 'line 1, column 2: a name needs double quotes: "a"'],
  ["{'a': 1}", 'line 1, column 2: a name needs double quotes: "a"'],
  ["{,}", 'line 1, column 2: a name in double quotes is missing before ","'],
  ['{"a": }', 'line 1, column 7: a value is missing before "}"'],
  ["['a']", `line 1, column 2: strings need the plain double quote ("), not '`],
  ["[“a”]", 'line 1, column 2: strings need the plain double quote ("), not “'],
  ['["a]', "line 1, column 2: this string has no closing quote"],
  ['["a\n"]', "line 1, column 4: a string ends in its line: a closing quote is missing, or write \\n for a line break"],
  ['["a\tb"]', "line 1, column 4: a string cannot have this control character; write \\t"],
  ['["a\u0001b"]', "line 1, column 4: a string cannot have this control character; write \\u0001"],
  ['["\\x41"]', "line 1, column 3: this is no escape of JSON; write \\\\ for a backslash"],
  ['["\\u12"]', "line 1, column 3: \\u needs four digits from 0 to 9 and a to f"],
  ['["😀", x]', 'line 1, column 7: "x" is no value; a text needs double quotes'],
  ["[True]", "line 1, column 2: write true in lower case"],
  ["[None]", "line 1, column 2: JSON has no None; write null"],
  ["[-Infinity]", "line 1, column 2: JSON has no -Infinity; write null, or a string"],
  ["[01]", "line 1, column 2: a number has no zero in front"],
  ["[.5]", "line 1, column 2: a number needs a digit before the point, such as 0.5"],
  ["[1.]", "line 1, column 2: a number needs a digit behind the point, such as 1.0"],
  ["[+1]", "line 1, column 2: a number has no plus sign in front"],
  ["[0x1f]", "line 1, column 2: numbers are decimal in JSON"],
  ["[1.2.3]", 'line 1, column 2: "1.2.3" is no number; a text needs double quotes'],
  ["[1] // one", "line 1, column 5: JSON has no comments"],
  ["{} {}", 'line 1, column 4: the value ends before this; "{" is too much'],
  ['{"a": [1, 2}', 'line 1, column 12: "]" is expected here, not "}"'],
  ['{\n  "a": [1, 2]\n', 'line 3, column 1: "}" is missing: the object begins in line 1, column 1'],
  ["[1,", "line 1, column 4: a value is missing at the end"],
];

for (const [text, expected] of MISTAKES)
  test(`a mistake is said with its place: ${JSON.stringify(text)}`, () => {
    assert.equal(message(text), expected);
    assert.ok(!isValid(text));
  });

test("a name that is there twice in one object is a warning", () => {
  const { node, warnings } = readJson('{"a": 1, "b": {"a": 2},\n "\\u0061": 3}');
  assert.ok(node);
  assert.deepEqual(warnings.map((each) => each.message), [
    'line 2, column 2: the name "a" is there twice in this object; readers see the last one',
  ]);
});

test("what is nested too deep for the server is said, and nothing is too deep for the reader", () => {
  assert.ok(readJson("[".repeat(255) + "]".repeat(255)).node);
  assert.match(message("[".repeat(256) + "]".repeat(256)) ?? "", /column 256: this is nested more than 255 levels deep/);
  assert.match(message("[".repeat(1_000_000)) ?? "", /nested more than/);
});

test("formatting keeps the order, the text of numbers, and escapes", () => {
  const text = '{"b":1.0,"a":[12345678901234567890,1e5,-0.0,[],{}],"\\u0062":"\\u0041\\/é"}';
  const formatted = formatJson(text, node(text));
  assert.equal(formatted, `{
  "b": 1.0,
  "a": [
    12345678901234567890,
    1e5,
    -0.0,
    [],
    {}
  ],
  "\\u0062": "\\u0041\\/é"
}`);
  assert.equal(compactJson(formatted, node(formatted)), text);
});

test("the reader and JSON.parse accept the same texts, and formatting changes no value", () => {
  const random = seeded(17);
  let valid = 0;
  for (let round = 0; round < 6_000; round++) {
    const text = mutated(random, anyJson(random), round % 3);
    const result = readJson(text);
    assert.equal(!!result.node, isValid(text), `${result.problem?.message}: ${JSON.stringify(text)}`);
    if (!result.node) {
      assert.ok(result.problem && result.problem.at <= text.length && result.problem.column > 0);
      continue;
    }
    valid++;
    const formatted = formatJson(text, result.node);
    assert.deepEqual(JSON.parse(formatted), JSON.parse(text));
    const compact = compactJson(text, result.node);
    assert.equal(compactJson(formatted, node(formatted)), compact);
    // The tokens are the same: only white space outside of strings has changed.
    const tokens = /"(?:[^"\\]|\\.)*"|[^\s"]/g;
    assert.deepEqual(formatted.match(tokens), text.match(tokens));
  }
  assert.ok(valid > 1_500 && valid < 5_500, `${valid} valid texts`);
});

for (const [what, text] of /** @type {[string, string][]} */ ([
  ["a string of a megabyte", JSON.stringify("x".repeat(2 ** 20))],
  ["a megabyte of escapes", JSON.stringify("\n\\\u0001".repeat(2 ** 17))],
  ["an object of 10,000 keys", JSON.stringify(Object.fromEntries(Array.from({ length: 10_000 }, (_, key) => [`key ${key}`, [key]])))],
  ["a long unclosed string", `["${"x\\n".repeat(2 ** 18)}`],
]))
  test(`${what} is read`, () => {
    const result = readJson(text);
    assert.equal(!!result.node, isValid(text));
    if (result.node) assert.equal(compactJson(text, result.node), text);
  });
