// One version in full, and two versions side by side.

import { differenceTable, prettyJson } from "./comparison.js";
import { copyButton } from "./copy.js";
import { show } from "./dialog.js";
import { keepDraft } from "./draft.js";
import { h } from "./h.js";
import { eventRoute } from "./router.js";
import { curlInsert } from "./snippets.js";
import { timeText } from "./times.js";
import { authorOf, fateOf, timeOf } from "./version.js";
import { byWhom } from "./words.js";

/** @import { Subject } from "./subject.js" */
/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */

const VIEW_CHARACTERS_MAX = 200_000; // a browser needs seconds to lay out more

/** @param {Context} ctx @param {Subject} subject @param {VersionRecord} version @param {VersionRecord | null} before  the one before it */
export async function viewVersion(ctx, subject, version, before) {
  const { rights, latest } = subject.get();
  const text = prettyJson(version.data);
  const cut = text.length > VIEW_CHARACTERS_MAX;
  const canRestore = rights.insert && version.data !== "null" && version.uuid !== latest?.uuid;
  const dialog = h("dialog", { class: "event-view", "aria-labelledby": "event-view-title" },
    h("form", { method: "dialog" },
      h("div", null, h("h2", { id: "event-view-title" }, `Version ${timeText(timeOf(version))}`),
        h("p", { class: "muted" }, fateOf(version, latest), " ", byWhom(version, ctx.broker.now()), version.until !== undefined && `, until ${timeText(1_000 * version.until)}`, version.reason && `, ${version.reason}`)),
      h("pre", { class: "code event-whole", tabindex: "0", "aria-label": "Data" }, h("bdi", null, cut ? text.slice(0, VIEW_CHARACTERS_MAX) : text)),
      cut && h("p", { class: "muted" }, `The first ${VIEW_CHARACTERS_MAX.toLocaleString("en")} of ${text.length.toLocaleString("en")} characters. Copy the JSON to have all of it.`),
      before && h("details", null, h("summary", null, "Changes since the version before"), differenceTable(before.data, version.data)),
      h("div", { class: "actions" },
        copyButton(() => prettyJson(version.data), "Copy JSON"),
        copyButton(() => curlInsert(String(ctx.broker.url), version.event, version.data), "Copy as curl"),
        canRestore && h("button", { type: "submit", value: "restore" }, "Restore …"),
        h("button", { type: "submit", value: "", class: "primary", autofocus: true }, "Close"))));
  if ((await show(dialog)) === "restore") restoreVersion(ctx, subject, version);
}

/** Opens the editor with the text of a version. @param {Context} ctx @param {Subject} subject @param {VersionRecord} version */
export function restoreVersion(ctx, subject, version) {
  const note = `This is the version of ${authorOf(version)}, ${timeText(timeOf(version))}. Insert it to restore it.`;
  keepDraft(subject.user, subject.name, { text: prettyJson(version.data), note });
  ctx.go(eventRoute(subject.name));
}

/** @param {VersionRecord} older @param {VersionRecord} newer */
export async function compareVersions(older, newer) {
  await show(h("dialog", { class: "event-view", "aria-labelledby": "event-compare-title" },
    h("form", { method: "dialog" }, h("h2", { id: "event-compare-title" }, "Compare two versions"),
      differenceTable(older.data, newer.data, [titleOf(older), titleOf(newer)]),
      h("div", { class: "actions" }, h("button", { type: "submit", value: "", class: "primary", autofocus: true }, "Close")))));
}

/** @param {VersionRecord} version */
const titleOf = (version) => `${authorOf(version)}, ${timeText(timeOf(version))}`;
