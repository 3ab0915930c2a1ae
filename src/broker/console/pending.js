// What is pending for one event: when it comes, and a way to cancel it.

import { oneLine } from "./comparison.js";
import { ask, toast } from "./dialog.js";
import { h, replace } from "./h.js";
import { ago, fullTime, timeText } from "./times.js";
import { everySecond } from "./words.js";

/** @import { EventRights, Subject } from "./subject.js" */
/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */

/** @param {Context} ctx @param {Subject} subject */
export function pendingList(ctx, subject) {
  const list = h("ul", { class: "event-pending" });
  const section = h("section", { hidden: true, "aria-label": "Pending versions" }, h("h2", null, "Pending"), list);
  /** @type {Map<string, {element: HTMLElement, tick: () => void}>} */
  const rows = new Map();
  ctx.watch(subject, ({ pending, rights }) => {
    section.hidden = pending.length === 0;
    const kept = new Map(pending.map((each) => [each.uuid, rows.get(each.uuid) ?? pendingRow(ctx, subject, each, rights)]));
    rows.clear();
    for (const [uuid, row] of kept) rows.set(uuid, row);
    // A row that stays keeps the focus.
    const wanted = [...rows.values()].map((row) => row.element);
    if (wanted.some((each, index) => list.children[index] !== each) || list.children.length !== wanted.length) replace(list, wanted);
  });
  everySecond(ctx, () => rows.forEach((row) => row.tick()));
  return section;
}

/** @param {Context} ctx @param {Subject} subject @param {VersionRecord} version @param {EventRights} rights */
function pendingRow(ctx, subject, version, rights) {
  const due = 1_000 * version.timestamp;
  const count = h("span", { class: "event-count" });
  const tick = () => (count.textContent = ago(due, ctx.broker.now()));
  const what = version.data === "null" ? "removes the event" : oneLine(version.data);
  const mayCancel = rights.cancel === true || (rights.cancel === "own" && version.user === subject.user);
  const cancel = h("button", { type: "button", class: "quiet", "aria-label": `Cancel what is due ${timeText(due)}` }, "Cancel");
  cancel.onclick = async () => {
    const sure = await ask({ title: "Cancel this version?", body: `It would be published ${timeText(due)}. It stays in the log as cancelled.`, confirm: "Cancel it", cancel: "Keep it", danger: true });
    if (!sure) return;
    try {
      await ctx.api.post(`cancel/${version.uuid}`, "{}");
      toast("Cancelled.");
    } catch (error) {
      if (!ctx.signal.aborted) toast(/** @type {Error} */ (error).message);
    }
    subject.refresh();
  };
  tick();
  const element = h("li", null,
    h("time", { title: fullTime(due) }, timeText(due)), count, h("bdi", { class: "mono event-value" }, what),
    h("span", { class: "muted" }, version.user ? ["by ", h("bdi", null, version.user)] : null, version.until ? ` until ${timeText(1_000 * version.until)}` : null),
    mayCancel && cancel);
  return { element, tick };
}
