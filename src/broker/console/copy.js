// A button that copies.

import { h } from "./h.js";
import { toast } from "./dialog.js";

const DONE_MS = 1_500;

/** @param {string | (() => string | Promise<string>)} text @param {string} [label] @param {string} [what]  its full name, for
 * those who do not see what stands beside it */
export function copyButton(text, label = "Copy", what = label) {
  const button = h("button", { type: "button", class: "copy", "aria-label": what }, label);
  button.onclick = async () => {
    if (!(await copy(typeof text === "string" ? text : await text()))) return;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), DONE_MS);
  };
  return button;
}

/** Copies, and returns whether this was possible. @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain http, pages of other machines have no clipboard.
    const area = h("textarea", { value: text, readOnly: true, class: "visually-hidden" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) toast("This browser does not let the page copy. Select the text, and copy it.");
    return done;
  }
}
