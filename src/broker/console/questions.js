// What is asked before something is written or lost, and what is said when it is refused.

import { differenceTable } from "./comparison.js";
import { ask } from "./dialog.js";
import { h } from "./h.js";
import { wasNeverThere } from "./subject.js";
import { ago, timeText } from "./times.js";

/** @import { ProblemError } from "./api.js" */
/** @import { EventFacts } from "./subject.js" */
/** @import { Context } from "./types.js" */
/** @import { Moment } from "./when.js" */

/** Whether nothing is replaced, so that there is nothing to ask. @param {EventFacts} facts @param {Moment} moment */
export const isFirstVersion = (facts, { at, until }) => wasNeverThere(facts) && !facts.pending.length && at === null && until === null;

/** Shows what is about to change. @param {Context} ctx @param {string | null} before @param {string} data  both are JSON @param {Moment} moment */
export async function confirmInsert({ broker }, before, data, { at, until }) {
  const ends = until === null ? "" : ` It ends ${timeText(until)}, ${ago(until, broker.now())}.`;
  const count = h("strong", { class: "event-count" });
  const tick = () => (count.textContent = at === null ? "" : ago(at, broker.now()));
  const what = at === null ? `It becomes the newest version at once.${ends}` : ["It is published ", count, `, ${timeText(at)}, and replaces whatever is there by then.${ends} Compared with the value now:`];
  const body = h("div", { class: "event-review" }, h("p", { class: "muted" }, what), differenceTable(before, data));
  tick();
  const timer = setInterval(tick, 1_000);
  const title = at === null ? "Insert this version?" : "Schedule this version?";
  const isSure = await ask({ title, body, confirm: at === null ? "Insert" : "Schedule", cancel: "Back" });
  clearInterval(timer);
  return isSure;
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
