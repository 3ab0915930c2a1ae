// Questions, and short messages.

import { h } from "./h.js";

/** @import { Child } from "./types.js" */

/** Asks, and returns whether the answer is yes.
 * @param {{title: Child, body?: Child, confirm: string, danger?: boolean, cancel?: string}} question */
export function ask({ title, body, confirm, danger, cancel = "Cancel" }) {
  const no = h("button", { type: "submit", value: "", autofocus: danger }, cancel);
  const yes = h("button", { type: "submit", value: "yes", class: danger ? "danger" : "primary", autofocus: !danger }, confirm);
  const heading = h("h2", { id: "question" }, title);
  const form = h("form", { method: "dialog" }, heading, typeof body === "string" ? h("p", null, body) : body, h("div", { class: "actions" }, no, yes));
  return show(h("dialog", { "aria-labelledby": "question" }, form)).then((value) => value === "yes");
}

/** Shows a dialog until it is closed, and returns what it was closed with; "" is Escape. @param {HTMLDialogElement} dialog
 * @returns {Promise<string>} */
export function show(dialog) {
  const before = document.activeElement;
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(dialog.returnValue);
    }),
  );
}

const TOAST_MS = 6_000;
const TOAST_BUTTON_MS = 15_000; // to reach the button with a keyboard

/** Shows a message for some seconds; screen readers announce it. It may have a button, such as "Undo".
 * @param {string} text @param {{label: string, run: () => unknown, signal: AbortSignal}} [button]  until the signal is aborted */
export function toast(text, button) {
  const element = h("p", { class: "toast" }, text);
  const end = () => element.remove();
  if (button) {
    element.append(h("button", { type: "button", onclick: () => (end(), button.run()) }, button.label));
    button.signal.addEventListener("abort", end);
  }
  const place = document.getElementById("toasts") ?? document.body;
  place.append(element);
  setTimeout(end, button ? TOAST_BUTTON_MS : TOAST_MS);
}
