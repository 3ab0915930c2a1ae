// What the screen of a removed event says, and the way back.

import { h, replace } from "./h.js";
import { byWhom, everySecond, timeElement } from "./words.js";
import { timeOf } from "./version.js";

/** @import { EventFacts, Subject } from "./subject.js" */
/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */

/** @param {Context} ctx @param {Subject} subject @param {(version: VersionRecord) => void} restore */
export function removedNotice(ctx, subject, restore) {
  const said = h("p");
  const button = h("button", { type: "button" }, "Restore the last value …");
  const notice = h("div", { class: "event-removed", hidden: true }, said, button);
  const show = (/** @type {EventFacts} */ { latest, removal, last, rights }) => {
    notice.hidden = Boolean(latest) || !removal;
    if (notice.hidden || !removal) return;
    const now = ctx.broker.now();
    replace(said, "This event has no value: ", removal.ends ? ["its last version ended ", timeElement(timeOf(removal), now)] : ["removed ", byWhom(removal, now)], ".");
    button.hidden = !last || !rights.insert;
    button.onclick = () => last && restore(last);
  };
  ctx.watch(subject, show);
  everySecond(ctx, () => show(subject.get()));
  return notice;
}
