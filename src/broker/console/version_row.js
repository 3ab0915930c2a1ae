// One version in the history: what has become of it, who has inserted it, and what it has changed.

import { changeText, oneLine } from "./comparison.js";
import { h, replace } from "./h.js";
import { fullTime } from "./times.js";
import { fateOf, timeOf } from "./version.js";
import { restoreVersion } from "./version_view.js";
import { byWhom } from "./words.js";

/** @import { Subject } from "./subject.js" */
/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */

/** @type {{[fate: string]: string}} */
const FATE_STYLES = { current: "badge ok", pending: "badge warn", cancelled: "badge danger" };

/** `before` is the published version before it, if it is known.
 * @typedef {object} VersionRow
 * @property {HTMLElement} element
 * @property {HTMLInputElement} box
 * @property {() => void} tick
 * @property {(version: VersionRecord) => void} update
 * @property {(before: VersionRecord | null) => void} compare */

/** @param {Context} ctx @param {Subject} subject @param {VersionRecord} version
 * @param {{choose: (uuid: string, isChosen: boolean) => void, view: (version: VersionRecord) => void}} on @returns {VersionRow} */
export function versionRow(ctx, subject, version, { choose, view }) {
  let current = version;
  let compared = "";
  const badge = h("span", { class: "badge" });
  const who = h("span", { class: "event-who" });
  const box = h("input", { type: "checkbox", "aria-label": "Compare", onchange: () => choose(current.uuid, box.checked) });
  const change = h("bdi", { class: "event-change" });
  const value = h("button", { type: "button", class: "link mono event-value", title: `See the whole version of ${fullTime(timeOf(version))}` }, change, h("bdi", null, oneLine(version.data)));
  const restore = h("button", { type: "button", class: "quiet event-restore", "aria-label": `Restore … ${fullTime(timeOf(version))}`, onclick: () => restoreVersion(ctx, subject, current) }, "Restore …");
  const element = h("li", null, h("label", { class: "event-choose" }, box), badge, who, value, restore);
  // The whole row opens the version, but for what has a purpose of its own.
  element.onclick = ({ target }) => {
    if (target instanceof Element && !target.closest("label, .event-restore")) view(current);
  };
  const tick = () => {
    const fate = fateOf(current, subject.get().latest);
    if (badge.textContent !== fate) {
      badge.textContent = fate;
      badge.className = FATE_STYLES[fate] ?? "badge";
    }
    restore.hidden = fate !== "earlier" || !subject.get().rights.insert;
    replace(who, byWhom(current, ctx.broker.now()));
  };
  const compare = (/** @type {VersionRecord | null} */ before) => {
    // What is pending replaces whatever is there by then.
    const key = current.id && before ? before.uuid : "";
    if (compared === (compared = key)) return;
    change.textContent = key && before ? changeText(before.data, current.data) : "";
  };
  return { element, box, tick, compare, update: (newer) => void (current = newer) };
}
