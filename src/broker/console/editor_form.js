// What the editor looks like: the field, the times, the buttons that are permitted, and what is said.

import { h } from "./h.js";
import { JsonField } from "./json_field.js";
import { WhenField } from "./when.js";

/** @import { EventRights } from "./subject.js" */
/** @import { Context } from "./types.js" */

/** @param {string} text */
const keyCap = (text) => h("kbd", null, text);

export class EditorForm {
  #insert = h("button", { type: "submit", class: "primary", "aria-keyshortcuts": "Control+S Meta+S", title: "Ctrl S" }, "Insert …");
  #format = h("button", { type: "button", title: "Shift Alt F", "aria-keyshortcuts": "Shift+Alt+F", onclick: () => this.field.format() }, "Format");
  #discard;
  #remove;
  #does = h("span", null, " inserts.");
  #keys = h("p", { id: "event-keys", class: "muted event-keys" }, keyCap("Tab"), " inserts two spaces; ", keyCap("Esc"), " and then ", keyCap("Tab"), " leaves the field. ", keyCap("Ctrl S"), this.#does);
  #why = h("p", { class: "muted", hidden: true });
  #error = h("p", { class: "error", role: "alert", hidden: true });
  #note = h("p", { class: "notice", role: "status", hidden: true });

  /** @param {Context} ctx @param {Element} conflict
   * @param {{change: () => void, insert: () => void, discard: () => void, remove: () => void}} on */
  constructor(ctx, conflict, { change, insert, discard, remove }) {
    this.field = new JsonField(ctx, change);
    this.when = new WhenField(ctx, change);
    this.#discard = h("button", { type: "button", class: "quiet", onclick: discard }, "Discard ", h("span", { class: "event-wide" }, "changes"));
    this.#remove = h("button", { type: "button", class: "danger", onclick: remove }, "Remove …");
    this.element = h("form", { class: "event-form" }, conflict, this.#note, this.field.element, this.#keys, this.when.element, this.#error,
      h("div", { class: "toolbar event-actions" }, this.#insert, this.#format, this.#discard, this.#remove), this.#why);
    this.element.onsubmit = (event) => {
      event.preventDefault();
      insert();
    };
    ctx.listen(document, "keydown", (event) => {
      if (!((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s" && !event.shiftKey && !event.altKey)) return;
      event.preventDefault();
      if (!document.querySelector("dialog[open]")) insert();
    });
  }

  /** What is not permitted is not shown, and a sentence says why. @param {EventRights} rights @param {string | null} user */
  permit(rights, user) {
    this.field.area.readOnly = !rights.insert;
    for (const each of [this.#insert, this.#format, this.#keys, this.when.element]) each.hidden = !rights.insert;
    this.#remove.hidden = !rights.remove;
    this.when.allowEnd(rights.remove);
    const forbidden = [!rights.insert && "insert", !rights.remove && "remove"].filter(Boolean).join(" or ");
    sayIn(this.#why, forbidden && `${user ? "The rules do not permit you to" : "Without an account, you may not"} ${forbidden} this event.`);
  }

  /** @param {{busy: boolean, ready: boolean, dirty: boolean, exists: boolean}} state */
  update({ busy, ready, dirty, exists }) {
    this.#insert.disabled = busy || !ready;
    this.#insert.textContent = this.when.isScheduled ? "Schedule …" : "Insert …";
    this.#does.textContent = this.when.isScheduled ? " schedules." : " inserts.";
    this.#discard.hidden = !dirty;
    this.#remove.disabled = busy || !exists;
  }

  /** @param {string} text */
  note(text) {
    sayIn(this.#note, text);
  }

  /** @param {string} text */
  refuse(text) {
    sayIn(this.#error, text);
  }
}

/** @param {HTMLElement} element @param {string} text */
function sayIn(element, text) {
  element.hidden = !text;
  element.textContent = text;
}
