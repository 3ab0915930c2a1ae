// An entry of the schedule: a record that is pending, or the end of a version that holds now. One row shows it, with a
// count-down, and with what one can do about it.

import { ask, toast } from "./dialog.js";
import { compactJson } from "./format.js";
import { h, replace } from "./h.js";
import { JSON_DEPTH_MAX, readJson } from "./json.js";
import { eventRoute, eventsRoute } from "./router.js";
import { fromLocalInput, fullTime, localInput, timeText } from "./times.js";

/** @import { PendingTexts } from "./texts.js" */
/** @import { Pending } from "../js/types.js" */
/** @import { Ending } from "./endings.js" */
/** @import { Context } from "./types.js" */
/** @import { TimelineMark } from "./timeline.js" */

/** @typedef {TimelineMark & {event: string, user: string | null, pending?: Pending}} Entry */
/** `withdrawn`: the user has just cancelled or moved it.
 * @typedef {{entry: Entry, withdrawn: boolean, element: HTMLLIElement, tick: (now: number) => void, show: (entry: Entry) => void}} EntryRow */

const ENTRY_VALUE_LENGTH = 200; // letters of a value: more do not fit into a line
const ENTRY_UNITS = /** @type {const} */ ([["day", 86_400], ["h", 3_600], ["min", 60], ["s", 1]]);

/** @param {Pending} pending @returns {Entry} */
export function entryOfPending(pending) {
  const { uuid, event, at, until, user, data } = pending;
  return { key: uuid, label: event, event, kind: data === null ? "remove" : "insert", at, until, user, pending };
}

/** @param {Ending} ending @returns {Entry} */
export function entryOfEnding({ uuid, event, until, user }) {
  return { key: `end ${uuid}`, label: event, event, kind: "end", at: until, user };
}

/** @param {number} time */
function entryTime(time) {
  return h("time", { title: fullTime(time) }, timeText(time));
}

/** How long it is until then: "12 s", "3 min 20 s", "2 h 5 min", "92 days". @param {number} milliseconds */
export function countDown(milliseconds) {
  const seconds = Math.ceil(milliseconds / 1_000);
  if (seconds <= 0) return "now";
  const first = ENTRY_UNITS.findIndex(([, size]) => seconds >= size);
  const [unit, size] = ENTRY_UNITS[first];
  const count = Math.floor(seconds / size);
  const [smaller, part] = ENTRY_UNITS[first + 1] ?? ["", 0];
  const rest = part && count < 10 ? Math.floor((seconds % size) / part) : 0;
  return `${entryAmount(count, unit)}${rest ? ` ${entryAmount(rest, smaller)}` : ""}`;
}

/** @param {number} count @param {string} unit */
const entryAmount = (count, unit) => `${count} ${unit}${unit === "day" && count !== 1 ? "s" : ""}`;

/** The value in a line. @param {Entry} entry */
function entryValue({ kind, pending }) {
  if (kind === "end") return "this version ends, and the event with it";
  if (kind === "remove") return "removes the event";
  return entryCut(JSON.stringify(pending?.data) ?? "");
}

/** @param {string} text */
const entryCut = (text) => (text.length > ENTRY_VALUE_LENGTH ? `${text.slice(0, ENTRY_VALUE_LENGTH)}…` : text);

/** What is pending of an event, as text. @param {Context} ctx @param {string} event */
async function entryText(ctx, event) {
  const response = await ctx.api.get(`pending?event=${encodeURIComponent(event)}`);
  return response.text();
}

/** @param {Context} ctx @param {Entry} entry @param {PendingTexts} texts @returns {EntryRow} */
export function entryRow(ctx, entry, texts) {
  const left = h("span", { class: "schedule-left" });
  const details = h("p", { class: "schedule-details muted" });
  const value = h("bdi", { class: entry.kind === "insert" ? "schedule-value mono" : "schedule-value muted" });
  const mover = h("div", { class: "schedule-mover" });
  const actions = h("div", { class: "schedule-actions" });
  const element = h("li", { class: `schedule-entry schedule-entry-${entry.kind}` },
    left,
    h("div", { class: "schedule-what" },
      h("a", { class: "schedule-event mono", href: eventRoute(entry.event) }, h("bdi", null, entry.event)), value, details),
    actions,
    mover,
  );
  /** @type {EntryRow} */
  const row = {
    entry,
    withdrawn: false,
    element,
    tick(now) {
      const text = countDown(row.entry.at - now);
      if (left.textContent !== text) left.textContent = text;
    },
    show(next) {
      row.entry = next;
      value.textContent = entryValue(next);
      if (next.kind === "insert" && /\d/.test(value.textContent)) texts.want(next.key, (text) => (value.textContent = entryCut(text)));
      const verb = next.kind === "end" ? "ends" : "due";
      replace(details,
        `${verb} `, entryTime(next.at),
        next.until !== undefined && [", until ", entryTime(next.until)],
        next.user !== null && [", by ", h("bdi", null, next.user)],
      );
    },
  };
  row.show(entry);
  const then = h("a", { class: "schedule-then", href: eventsRoute({ at: entryMoment(entry) }) }, "Show the state then");
  then.setAttribute("aria-label", `Show the state then, when ${entry.event} ${entry.kind === "end" ? "ends" : "is due"}`);
  actions.append(then);
  if (entry.pending) actions.append(...entryButtons(ctx, row, mover));
  return row;
}

/** The state at this time has the record already: what is due at a time counts at that time, which was rounded here.
 * @param {Entry} entry  seconds, as everywhere in the addresses */
const entryMoment = (entry) => String((entry.at + 1) / 1_000);

/** @param {Context} ctx @param {EntryRow} row @param {HTMLElement} place  where the form for another time is shown */
function entryButtons(ctx, row, place) {
  const name = row.entry.event;
  const move = h("button", { class: "quiet", "aria-label": `Move ${name}`, "aria-expanded": "false" }, "Move");
  const cancel = h("button", { class: "quiet danger", "aria-label": `Cancel ${name}` }, "Cancel");
  move.addEventListener("click", () => entryMover(ctx, row, place, move));
  cancel.addEventListener("click", () => entryCancel(ctx, row));
  return [move, cancel];
}

/** @param {Context} ctx @param {EntryRow} row */
async function entryCancel(ctx, row) {
  const { entry } = row;
  const sure = await ask({
    title: `Cancel what is scheduled for ${entry.event}?`,
    body: `It is due in ${countDown(entry.at - ctx.broker.now())}, and will not be published. The log keeps it as cancelled.`,
    confirm: "Cancel the record",
    cancel: "Keep it",
    danger: true,
  });
  if (!sure) return;
  entryWithdraw(ctx, row, () => ctx.broker.schedule.cancel(entry.key), "is cancelled");
}

/** @param {Context} ctx @param {EntryRow} row @param {() => Promise<unknown>} act @param {string} what */
async function entryWithdraw(ctx, row, act, what) {
  row.withdrawn = true;
  try {
    await act();
    toast(`${row.entry.event} ${what}.`);
  } catch (error) {
    row.withdrawn = false;
    if (!ctx.signal.aborted) toast(entryRefusal(row.entry, error));
  }
}

/** What is said if the server refuses to cancel or to move. @param {Entry} entry @param {any} error */
function entryRefusal({ event }, error) {
  if (error?.status === 409) return `${event} was faster: it is published, or was cancelled by somebody else.`;
  return `${event} stays as it is: ${error?.message ?? error}`;
}

/** Opens the form for another time, or closes it. @param {Context} ctx @param {EntryRow} row @param {HTMLElement} place
 * @param {HTMLElement} button */
function entryMover(ctx, row, place, button) {
  const close = () => {
    replace(place);
    button.setAttribute("aria-expanded", "false");
    button.focus();
  };
  if (place.firstChild) return close();
  const time = h("input", { type: "datetime-local", step: "1", required: true, value: localInput(row.entry.at) });
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const form = h("form", {
    class: "schedule-move",
    "aria-label": `Another time for ${row.entry.event}`,
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") close();
    },
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const at = fromLocalInput(time.value);
      problem.hidden = at > ctx.broker.now();
      if (!problem.hidden) return void (problem.textContent = "This time has passed; choose a later one.");
      close();
      entryWithdraw(ctx, row, () => entryMove(ctx, row.entry, at), `is moved to ${timeText(at)}`);
    },
  },
    h("label", { class: "field" }, h("span", null, "New time"), time),
    h("button", { class: "primary" }, "Move it"),
    h("button", { type: "button", class: "quiet", onclick: close }, "Keep the time"),
    problem,
  );
  place.append(form);
  button.setAttribute("aria-expanded", "true");
  time.focus();
}

/** Gives a pending record another time. @param {Context} ctx @param {Entry} entry @param {number} at */
async function entryMove(ctx, { key, event, until }, at) {
  const data = entryData(await entryText(ctx, event), key);
  if (JSON.stringify(JSON.parse(data)) === data) return ctx.broker.schedule.move(key, at);
  // The digits of a number, such as 2.30, would become other ones in JavaScript, so the text is sent as it is.
  const end = until === undefined ? "" : `,"until":${until / 1_000}`;
  return ctx.api.post("insert", `[{"cancel":"${key}"},{"event":${JSON.stringify(event)},"data":${data},"timestamp":${at / 1_000}${end}}]`);
}

/** The text of the data of one of the records. @param {string} text @param {string} uuid */
function entryData(text, uuid) {
  for (const { members } of readJson(text, 2 + JSON_DEPTH_MAX).node?.items ?? []) {
    const value = (/** @type {string} */ name) => members.find((each) => each.key === name)?.value;
    const data = value("data");
    const id = value("uuid");
    if (data && id && text.slice(id.start + 1, id.end - 1) === uuid) return compactJson(text, data);
  }
  throw new Error("it is not pending any more");
}
