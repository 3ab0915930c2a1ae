// Programs for one event, in several languages, that run as they are copied. Names and data are escaped for each language.

import { insertBody } from "./writes.js";
import { readJson } from "./json.js";

/** @import { JsonNode } from "./json.js" */

/** `url` is the server's address, and ends with a slash. `data` is JSON: an example of what is inserted. `type` is TypeScript.
 * @typedef {{url: string, name: string, data: string, type: string}} SnippetSubject
 * @typedef {{title: string, code: string}} Snippet */

const LITERAL_LINE_MAX = 72; // characters of an array or an object in one line
const SHELL_ARGUMENT_MAX = 100_000; // bytes; Linux allows 128 KiB for one

/** For a POSIX shell. @param {string} text */
export const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** For JavaScript, also within a page: a name may have `</script>` in it, and a comment may be around it. @param {string} text */
export const scriptQuoted = (text) => JSON.stringify(text).replace(/[<>\u2028\u2029]|\*(?=\/)/g, unicodeEscape);

/** For Python, whose strings have all escapes that JSON has. @param {string} text */
export const pythonQuoted = (text) => JSON.stringify(text);

/** @param {string} character */
const unicodeEscape = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

// The server leaves out comments that have lines of their own, and the word that exports a function, wherever they are; so
// the programs have theirs from here.
const LINE_COMMENT = "//";
const TYPE_COMMENT = "/**";
const EXPORT = "export";

const JSON_HEADER = "-H 'Content-Type: application/json'";
const TOKEN_HEADER = '-H "Authorization: Bearer $TOKEN"';

/** Inserts a version from a shell. @param {string} url @param {string} event @param {string} data  compact JSON */
export function curlInsert(url, event, data) {
  const body = insertBody({ event, data });
  const command = `curl ${shellQuoted(`${url}insert`)} ${TOKEN_HEADER} ${JSON_HEADER}`;
  // What is too long for an argument is read from the lines that follow. None of them can be the last word, since the body is JSON.
  return body.length * 3 > SHELL_ARGUMENT_MAX ? `${command} --data-binary @- <<'END_OF_JSON'\n${body}\nEND_OF_JSON\n` : `${command} -d ${shellQuoted(body)}`;
}

/** @param {SnippetSubject} subject @returns {Snippet[]} */
export function curlSnippets({ url, name, data }) {
  const query = `event=${encodeURIComponent(name)}`;
  return [
    { title: "Read the newest version", code: `curl ${TOKEN_HEADER} ${shellQuoted(`${url}snapshot?${query}`)}` },
    { title: "Follow every change", code: `curl -N ${TOKEN_HEADER} ${shellQuoted(`${url}events?${query}`)}` },
    { title: "Insert a version", code: curlInsert(url, name, data) },
  ];
}

/** The first page needs no login if everybody may read the event; who inserts logs in before. @param {SnippetSubject} subject @returns {Snippet[]} */
export function pageSnippets({ url, name, data, type }) {
  const head = `<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Broker</title>
`;
  const script = `<script type="module">
  import { createBroker } from ${scriptQuoted(`${url}broker.js`)};
`;
  return [
    {
      title: "A page with the live value",
      code: `${head}<pre id="value">loading …</pre>
${script}
  /** @typedef {${indented(type, "  ")}} Value */
  const event = createBroker().event(${scriptQuoted(name)});

  // Called at once, and after each change.
  event.subscribe((/** @type {Value | undefined} */ data) => {
    document.getElementById("value").textContent = data === undefined ? "no value" : JSON.stringify(data, null, 2);
  });
</script>
` },
    {
      title: "Insert from a page",
      code: `${head}<form>
  <input name="user" placeholder="User name" autocomplete="username">
  <input name="password" type="password" placeholder="Password" autocomplete="current-password">
  <button>Insert</button>
</form>
<p id="state"></p>
${script}
  const broker = createBroker();
  const form = document.querySelector("form");
  const state = document.getElementById("state");

  form.onsubmit = async (event) => {
    event.preventDefault();
    try {
      await broker.logIn(form.user.value, form.password.value); // signUp makes a new user
      await broker.event(${scriptQuoted(name)}).set(${scriptValue(data, "      ")});
      state.textContent = "Inserted at " + new Date().toLocaleTimeString();
    } catch (error) {
      state.textContent = error.message;
    }
  };
</script>
` },
  ];
}

/** @param {SnippetSubject} subject @returns {Snippet[]} */
export function reactSnippets({ url, name, data, type }) {
  return [
    { title: "Once, in your project", code: `npm install ${shellQuoted(`${url}broker.tgz`)}` },
    {
      title: "src/App.tsx",
      code: `// src/App.tsx
import type { FormEvent } from "react";
import { BrokerProvider, SignedIn, SignedOut, useBroker, useEvent } from "zerocode-broker/react";

type Value = ${type};

${EXPORT} default function App() {
  return (
    <BrokerProvider url={${scriptQuoted(url)}}>
      <Live />
      <SignedOut><LogIn /></SignedOut>
      <SignedIn><Insert /></SignedIn>
    </BrokerProvider>
  );
}

function Live() {
  const data = useEvent<Value>(${scriptQuoted(name)});
  return <pre>{data === undefined ? "no value" : JSON.stringify(data, null, 2)}</pre>;
}

// Users insert.
function Insert() {
  const event = useBroker().event<Value>(${scriptQuoted(name)});
  return <button onClick={() => event.set(${scriptValue(data, "  ")})}>Insert</button>;
}

function LogIn() {
  const broker = useBroker();
  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    broker.logIn(String(form.get("user")), String(form.get("password"))).catch((error) => alert(error.message));
  }
  return (
    <form onSubmit={submit}>
      <input name="user" placeholder="User name" autoComplete="username" />
      <input name="password" type="password" placeholder="Password" autoComplete="current-password" />
      <button>Log in</button>
    </form>
  );
}
` }];
}

/** @param {SnippetSubject} subject @returns {Snippet[]} */
export function pythonSnippets({ url, name, data }) {
  const head = (/** @type {string} */ imports) => `import json\nimport os
${imports}
URL = ${pythonQuoted(url)}
EVENT = ${pythonQuoted(name)}
HEADERS = {"Authorization": "Bearer " + os.environ["TOKEN"], "Content-Type": "application/json"}
`;
  return [
    {
      title: "Insert a version",
      code: `${head("from urllib.request import Request, urlopen\n")}
data = ${pythonValue(data)}
body = json.dumps({"event": EVENT, "data": data}).encode()
with urlopen(Request(URL + "insert", body, HEADERS)) as response:
    print(json.load(response))
` },
    {
      title: "Follow every change",
      code: `${head("from urllib.parse import urlencode\nfrom urllib.request import Request, urlopen\n")}
query = urlencode({"event": EVENT, "frames": "record"})
with urlopen(Request(URL + "events?" + query, headers=HEADERS)) as stream:
    name = b""
    for line in stream:  # a record has no line "event:", Broker's own events have one
        if line.startswith(b"data: ") and not name:
            print(json.loads(line[6:])["data"], flush=True)
        name = line if line.startswith(b"event: ") else name if line.strip() else b""
` },
  ];
}

/** @param {string} text @param {string} margin */
const indented = (text, margin) => text.replaceAll("\n", `\n${margin}`);

/** A literal of JavaScript for a JSON text. @param {string} data @param {string} margin */
function scriptValue(data, margin) {
  const key = (/** @type {string} */ name) => (name === "__proto__" ? '["__proto__"]' : scriptQuoted(name));
  return indented(valueLiteral(data, { string: (raw) => scriptQuoted(JSON.parse(raw)), key, constant: (word) => word, margin: "  " }), margin);
}

/** @type {{[word: string]: string}} */
const PYTHON_CONSTANTS = { true: "True", false: "False", null: "None" };

/** @param {string} data */
function pythonValue(data) {
  const string = (/** @type {string} */ raw) => raw.replace(/\\(.)/g, (escape, character) => (character === "/" ? "/" : escape)); // the escape that Python does not have
  return valueLiteral(data, { string, key: pythonQuoted, constant: (word) => PYTHON_CONSTANTS[word], margin: "    " });
}

/** How a language writes values. Strings come as they are in JSON.
 * @typedef {{string: (raw: string) => string, key: (key: string) => string, constant: (word: string) => string, margin: string}} Literals */

/** Numbers stay as they are written. @param {string} text @param {Literals} language */
function valueLiteral(text, language) {
  /** @param {JsonNode} node @param {string} margin @returns {string} */
  const write = (node, margin) => {
    const raw = text.slice(node.start, node.end);
    if (node.kind === "string") return language.string(raw);
    if (node.kind === "number") return raw;
    if (node.kind === "constant") return language.constant(raw);
    const deeper = margin + language.margin;
    const members = new Map(node.members.map(({ key, value }) => [key, value]));
    const parts = node.kind === "array" ? node.items.map((item) => write(item, deeper)) : [...members].map(([key, value]) => `${language.key(key)}: ${write(value, deeper)}`);
    const [open, close] = node.kind === "array" ? "[]" : "{}";
    const line = parts.join(", ");
    return line.length > LITERAL_LINE_MAX || line.includes("\n") ? `${open}\n${parts.map((part) => `${deeper}${part},\n`).join("")}${margin}${close}` : open + line + close;
  };
  const root = readJson(text).node;
  return root ? write(root, "") : language.constant("null");
}
