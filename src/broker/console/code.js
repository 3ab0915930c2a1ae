// The tab with code for this event.

import { copyButton } from "./copy.js";
import { h, replace } from "./h.js";
import { curlSnippets, pageSnippets, pythonSnippets, reactSnippets } from "./snippets.js";
import { typescriptOf } from "./typescript.js";

/** @import { Subject } from "./subject.js" */
/** @import { Context } from "./types.js" */
/** @import { Snippet, SnippetSubject } from "./snippets.js" */

const EXAMPLE_CHARACTERS_MAX = 2_000; // a longer value is no example
const EXAMPLE_DATA = '{"hello":"world"}';
const LANGUAGE_KEY = "broker console language";

/** @type {{[language: string]: [string, (subject: SnippetSubject) => Snippet[], string]}} */
const LANGUAGES = {
  page: ["JavaScript", pageSnippets, "Save it as index.html, and in its folder run python3 -m http.server 8000 --bind 127.0.0.1. Then open http://127.0.0.1:8000."],
  react: ["React", reactSnippets, "It replaces src/App.tsx of a project such as npm create vite makes. The type is inferred from the newest version."],
  curl: ["curl", curlSnippets, "The commands read your token from the variable TOKEN."],
  python: ["Python", pythonSnippets, "Python’s standard library is enough. The programs read your token from the variable TOKEN."],
};

/** @param {Context} ctx @param {Subject} subject */
export function codeTab(ctx, subject) {
  const code = h("div", { class: "event-code" }, h("p", { class: "empty" }, "Loading …"));
  let language = rememberedLanguage();
  /** @type {SnippetSubject} */
  let filled = { url: String(ctx.broker.url), name: subject.name, data: EXAMPLE_DATA, type: "unknown" };
  const choice = h("div", { class: "event-languages", role: "radiogroup", "aria-label": "Language" }, Object.entries(LANGUAGES).map(([key, [label]]) =>
    h("label", null, h("input", { type: "radio", name: "event-language", value: key, checked: key === language, onchange: () => show(key) }), h("span", null, label))));
  const show = (/** @type {string} */ key) => {
    language = key;
    rememberLanguage(key);
    const [label, make, note] = LANGUAGES[key];
    replace(code, h("p", { class: "muted" }, note), note.includes("TOKEN") && tokenLine(ctx), make(filled).map((snippet) => block(snippet, label)));
  };
  let seen = "";
  let shown = "";
  ctx.watch(subject, async ({ known, latest, error }) => {
    const version = latest?.uuid ?? "none";
    if ((!known && !error) || seen === version) return;
    seen = version;
    const type = latest ? await inferredType(ctx, subject) : "unknown";
    const isExample = latest && latest.data.length <= EXAMPLE_CHARACTERS_MAX;
    filled = { ...filled, data: isExample ? latest.data : EXAMPLE_DATA, type: isExample ? type : "unknown" };
    // What is the same stays, with the focus and the selection in it.
    if (shown !== (shown = JSON.stringify(filled))) show(language);
  });
  return h("div", { class: "event-code-tab" }, choice, code);
}

/** @param {Snippet} snippet @param {string} language */
function block({ title, code }, language) {
  return h("section", { class: "event-snippet", "aria-label": title }, h("h2", null, title),
    h("div", { class: "code" }, h("pre", { class: `code ${language === "curl" ? "" : "event-lines"}`, tabindex: "0" }, h("code", null, code)), copyButton(code, "Copy", `Copy: ${title} (${language})`)));
}

/** @param {Context} ctx */
function tokenLine(ctx) {
  if (!ctx.broker.user.get()) return h("p", { class: "muted" }, "Sign in to copy a line that sets it.");
  return h("p", null, copyButton(async () => `export TOKEN=${await ctx.broker.token()}`, "Copy a line that sets TOKEN"), h("span", { class: "muted" }, " Keep it to yourself."));
}

/** @param {Context} ctx @param {Subject} subject */
async function inferredType(ctx, subject) {
  try {
    return typescriptOf(await (await ctx.api.get(`schema/${subject.path}`)).json());
  } catch {
    return "unknown"; // it was removed just now
  }
}

function rememberedLanguage() {
  try {
    const kept = localStorage.getItem(LANGUAGE_KEY) ?? "";
    return Object.hasOwn(LANGUAGES, kept) ? kept : "page";
  } catch {
    return "page";
  }
}

/** @param {string} language */
function rememberLanguage(language) {
  try {
    localStorage.setItem(LANGUAGE_KEY, language);
  } catch {} // then it is forgotten with the page
}
