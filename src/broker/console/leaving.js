// What becomes of text that is typed and not inserted when its screen is left.

import { keepDraft } from "./draft.js";
import { confirmLeave } from "./questions.js";
import { routeOf } from "./router.js";

/** @import { Subject } from "./subject.js" */
/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */

/** Text as it is now. @typedef {{dirty: boolean, text: string, base: VersionRecord | null}} Typed */

/** Asks before the text is lost. It is kept for the other tabs of this event, and when the session ends.
 * @param {Context} ctx @param {Subject} subject @param {() => Typed} typed */
export function guardText(ctx, subject, typed) {
  const { user, name } = subject;
  let isLost = false;
  ctx.listen(window, "beforeunload", (event) => typed().dirty && event.preventDefault());
  ctx.guard(async () => {
    const isKept = ctx.signal.aborted || ctx.broker.user.get()?.expired || isOtherTab(ctx, name);
    if (isKept || !typed().dirty) return true;
    isLost = await confirmLeave();
    return isLost;
  });
  ctx.signal.addEventListener("abort", () => {
    const { dirty, text, base } = typed();
    if (dirty && !isLost) keepDraft(user, name, { text, base, note: "Your text from before is back. It is not inserted yet." });
  });
}

/** Whether the address that is opened is another one of this event. @param {Context} ctx @param {string} event */
function isOtherTab(ctx, event) {
  const { name, params, query } = routeOf(location.hash);
  return name === "event" && params[0] === event && `${params}?${query}` !== `${ctx.params}?${ctx.query}`;
}
