// The controls of a form: what they say, and how a value is shown in them without disturbing whoever is typing.

import { same, textOf } from "./draft.js";

const NEVER = ["password", "file", "hidden", "submit", "reset", "button", "image"];

/** What was a password once, also while a page shows it as a text. @type {WeakSet<object>} */
const passwords = new WeakSet();

/** The controls that have a name, which is the path of their field, by this name. @param {ParentNode} element */
export function controlsOf(element) {
  /** @type {Map<string, any[]>} */
  const all = new Map();
  for (const control of /** @type {NodeListOf<any>} */ (element.querySelectorAll("input,textarea,select,output"))) {
    if (control.type === "password") passwords.add(control);
    if (!control.name || NEVER.includes(control.type) || passwords.has(control)) continue;
    all.set(control.name, [...(all.get(control.name) ?? []), control]);
  }
  return all;
}

/** What the controls of one field say. Of a list, what has no control stays in it. NaN if what is typed is not complete.
 * @param {any[]} controls  somebody types in the first of them @param {any} [before] @returns {any} */
export function read(controls, before) {
  const [{ type, value, checked, validity }] = controls;
  if (validity?.badInput) return NaN;
  const choices = choicesOf(controls, before);
  if (choices) {
    const chosen = new Map(choices.map((each) => [each.value, each.checked ?? each.selected]));
    const kept = (Array.isArray(before) ? before : []).filter((each) => chosen.get(textOf(each)) ?? true);
    return [...kept, ...[...chosen.keys()].filter((each) => chosen.get(each) && !kept.some((other) => same(other, each)))];
  }
  if (type === "checkbox") return checked;
  if (type === "radio") return controls.find((each) => each.checked)?.value;
  if (type !== "number" && type !== "range") return value;
  return value === "" ? null : Number(value);
}

/** What they said when the page was made. @param {any[]} controls */
export function rendered(controls) {
  const form = document.createElement("form");
  form.append(...controls.map((each) => each.cloneNode(true)));
  form.reset();
  return read([...form.elements]);
}

/** The choices of a list: the options of a list of several, or the check boxes of one name.
 * @param {any[]} controls @param {any} value @returns {any[] | undefined} */
const choicesOf = (controls, value) => {
  const [{ type, options } = {}] = controls; // the controls may be gone
  if (type === "select-multiple") return [...options];
  return type === "checkbox" && (controls.length > 1 || Array.isArray(value)) ? controls : undefined;
};

/** @param {any[]} controls @param {any} value */
export function show(controls, value) {
  const choices = choicesOf(controls, value);
  if (choices) for (const each of choices) each["checked" in each ? "checked" : "selected"] = Array.isArray(value) && value.some((other) => same(other, each.value));
  else
    for (const each of controls)
      if (each.type === "radio") each.checked = each.value === textOf(value);
      else if (each.type === "checkbox") each.checked = Boolean(value);
      else if (!same(read([each]), value)) write(each, textOf(value));
}

/** Replaces a text. Where somebody is typing, only the part that differs, so that caret and selection stay where they are.
 * @param {any} control @param {string} text */
function write(control, text) {
  const { value, selectionStart } = control;
  // Only controls with free text have a selection that a page can see.
  if (typeof selectionStart !== "number" || !control.matches(":focus")) return (control.value = text);
  const most = Math.min(text.length, value.length);
  let first = 0;
  while (first < most && text[first] === value[first]) first++;
  let last = 0;
  while (last < most - first && text.at(-1 - last) === value.at(-1 - last)) last++;
  control.setRangeText(text.slice(first, text.length - last), first, value.length - last, "preserve");
}
