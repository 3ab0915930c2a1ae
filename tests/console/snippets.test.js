// The programs for one event: escaped for each language, whatever its name and its data are. tests/browser runs them.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { insertBody } from "../../src/broker/console/writes.js";
import { curlInsert, pageSnippets, pythonQuoted, pythonSnippets, scriptQuoted, shellQuoted } from "../../src/broker/console/snippets.js";
import { typescriptOf } from "../../src/broker/console/typescript.js";
import { anyJson, seeded } from "./generated.js";

const HOSTILE = ["", "a b", "it's", "''", '"', "\\", "$HOME `id` $(id)", "!!", "</script><script>", "*/", "${x}", "é😀\u2028", "-n", "@file", "%s", "\n", "a\\nb"];

test("a shell has each text back as it was", () => {
  for (const text of HOSTILE) assert.equal(execFileSync("sh", ["-c", `printf %s ${shellQuoted(text)}`], { encoding: "utf8" }), text);
});

test("JavaScript has each text back, and a page has no end of a script or of a comment in it", () => {
  for (const text of HOSTILE) {
    const quoted = scriptQuoted(text);
    assert.equal(new Function(`return ${quoted}`)(), text);
    assert.ok(!/[<>]|\*\//.test(quoted));
  }
});

test("Python has each text and each value back", () => {
  const random = seeded(3);
  // Python has no number beyond the largest float, and no negative zero among its integers.
  const values = Array.from({ length: 200 }, () => anyJson(random)).filter((text) => !/1e999|-0(?![.\d])/.test(text));
  const lists = values.map((data) => /^data = ([^]*?)^body = /m.exec(pythonSnippets({ url: "", name: "", data, type: "" })[0].code)?.[1]);
  const program = `import json\nprint(json.dumps([[${HOSTILE.map(pythonQuoted).join(",")}], [${lists.map((each) => `(${each})`).join(",")}]]))`;
  const [texts, read] = JSON.parse(execFileSync("python3", ["-"], { input: program, encoding: "utf8" }));
  assert.deepEqual(texts, HOSTILE);
  assert.deepEqual(read, values.map((text) => JSON.parse(text)));
});

test("JavaScript has each value back, also a member that is called __proto__", () => {
  const random = seeded(4);
  for (let round = 0; round < 500; round++) {
    const data = anyJson(random);
    const [, { code }] = pageSnippets({ url: "http://h/", name: "a", data, type: "unknown" });
    const literal = /\.set\(([^]*)\);\n {6}state\./.exec(code)?.[1];
    assert.deepEqual(new Function(`return (${literal})`)(), JSON.parse(data));
  }
});

test("what is too long for an argument of a command is read from lines behind it", () => {
  const data = JSON.stringify(`it's $HOME ${"x".repeat(200_000)}`);
  const command = curlInsert("http://h/", "a", data);
  const shown = execFileSync("sh", ["-s"], { input: `curl() { cat; }\nTOKEN=t\n${command}`, encoding: "utf8", maxBuffer: 2 ** 22 });
  assert.equal(shown, `{"event":"a","data":${data}}\n`);
});

test("the body of an insert has the data as they were written, and a condition only if it is published at once", () => {
  assert.equal(insertBody({ event: 'a"b', data: "[1.0,12345678901234567890]" }), '{"event":"a\\"b","data":[1.0,12345678901234567890]}');
  assert.equal(insertBody({ event: "a", data: "1", latest: null }), '{"event":"a","data":1,"if_latest":"none"}');
  assert.equal(insertBody({ event: "a", data: "1", latest: null, at: 1_500, until: 2_000 }), '{"event":"a","data":1,"timestamp":1.5,"late":"refuse","until":2}');
});

test("a schema becomes a type", () => {
  assert.equal(typescriptOf({}), "unknown");
  assert.equal(typescriptOf({ type: ["string", "null"] }), "string | null");
  assert.equal(typescriptOf({ type: "array", items: { anyOf: [{ type: "string" }, { type: "integer" }] } }), "(string | number)[]");
  assert.equal(typescriptOf({ type: "object", additionalProperties: { type: "number" } }), "{ [key: string]: number }");
  assert.equal(
    typescriptOf({ type: "object", properties: { a: { type: "integer" }, "b*/</script>": { type: "array" } }, required: ["a"] }),
    '{\n  a: number;\n  "b\\u002a/\\u003c/script\\u003e"?: unknown[];\n}',
  );
});
