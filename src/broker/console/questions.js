// What is asked before something is written or lost, and what is said when it is refused.

import { differenceTable } from "./comparison.js";
import { ask } from "./dialog.js";
import { h } from "./h.js";
import { timeText } from "./times.js";

/** @import { ProblemError } from "./api.js" */
/** @import { Moment } from "./when.js" */

/** Shows what is about to change. @param {string | null} before @param {string} data  both are JSON @param {Moment} moment */
export function confirmInsert(before, data, { at, until }) {
  const ends = until === null ? "" : ` It ends ${timeText(until)}.`;
  const what = at === null ? `It becomes the newest version at once.${ends}` : `It is published ${timeText(at)}, whatever the event is then.${ends} Compared with the value now:`;
  const body = h("div", { class: "event-review" }, h("p", { class: "muted" }, what), differenceTable(before, data));
  return ask({ title: at === null ? "Insert this version?" : "Schedule this version?", body, confirm: at === null ? "Insert" : "Schedule", cancel: "Back" });
}

/** @param {string} name @param {boolean} isPending  whether something else is pending */
export function confirmRemoval(name, isPending) {
  const body = h("div", null, h("p", null, "Every page sees at once that it has no value any more. Its log stays, so that you can restore each of its versions."),
    isPending && h("p", { class: "notice" }, "What is pending stays pending: it will give the event a value again. Cancel it, if you do not want that."));
  return ask({ title: ["Remove ", h("bdi", { class: "mono event-asked" }, name), "?"], body, confirm: "Remove", danger: true });
}

export function confirmLeave() {
  const body = "If you leave, your changes are lost.";
  return ask({ title: "Leave without inserting?", body, confirm: "Leave", cancel: "Stay", danger: true });
}

/** @param {ProblemError} error */
export function problemText({ status, message }) {
  const text = message[0].toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
  return status === 0 || status >= 500 ? `${text} Whether the version was stored is not known. Insert again: it is stored only once.` : text;
}
