// The screen Schedule: what is pending, and when versions end, with count-downs on the server's clock.

import { followEndings } from "./endings.js";
import { entryOfEnding, entryOfPending, entryRow } from "./entry.js";
import { copyButton } from "./copy.js";
import { h, replace } from "./h.js";
import { eventRoute } from "./router.js";
import { timeline } from "./timeline.js";
import { zone } from "./times.js";

/** @import { CollectionState, Pending } from "../js/types.js" */
/** @import { Entry, EntryRow } from "./entry.js" */
/** @import { Context } from "./types.js" */

const SCHEDULE_PAGE = 200; // entries that are shown at first, and that one more click adds
const SCHEDULE_FLASH_MS = 1_600; // how long what became due is still shown
const SCHEDULE_EARLY_MS = 1_500; // an entry that goes so long before its time became due: clocks differ a little

const SCHEDULE_GROUPS = ["Next minute", "Today", "This week", "Later"];

/** The number of the group in which a time is. @param {number} at @param {number} now */
export function scheduleGroup(at, now) {
  if (at <= now + 60_000) return 0;
  if (at < new Date(now).setHours(24, 0, 0, 0)) return 1;
  return at < now + 7 * 86_400_000 ? 2 : 3;
}

/** @param {Context} ctx */
export function scheduleScreen(ctx) {
  ctx.title("Schedule");
  const list = scheduleList(ctx);
  const line = timeline((key) => list.reveal(key));
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const summary = h("p", { class: "schedule-summary muted" });
  const ends = h("p", { class: "schedule-ends muted" });
  const empty = h("div", { class: "empty", hidden: true });
  const body = h("div", { class: "schedule-body", "aria-busy": "true" }, line.element, list.element);
  const screen = h("section", { class: "schedule", "aria-labelledby": "schedule-title" },
    h("header", { class: "schedule-head" }, h("h1", { id: "schedule-title" }, "Schedule"), summary), problem, body, empty, ends);
  /** @type {readonly Pending[]} */
  let pending = [];
  /** @type {CollectionState} */
  let state = ctx.broker.schedule.state.get();
  let queued = false;

  const endings = followEndings(ctx, later);

  function show() {
    queued = false;
    if (ctx.signal.aborted) return;
    const now = ctx.broker.now();
    const entries = [...pending.map(entryOfPending), ...endings.list().map(entryOfEnding)].sort((a, b) => a.at - b.at);
    list.show(entries, now);
    line.show(entries, now);
    const loading = state.status === "loading" && !entries.length;
    const denied = state.status === "denied";
    body.setAttribute("aria-busy", String(loading));
    body.hidden = !entries.length;
    problem.hidden = !denied;
    if (denied && problem.dataset.shown !== state.error?.message) {
      problem.dataset.shown = state.error?.message ?? "";
      replace(problem, `What is pending cannot be shown: ${state.error?.message ?? "it is denied"}. `,
        !ctx.broker.user.get() && h("a", { href: "#/sign-in" }, "Sign in"));
    }
    summary.textContent = loading ? "Reading what is pending …" : scheduleSummary(entries);
    const nothing = !loading && !denied && !entries.length && !list.leaving;
    if (nothing && empty.hidden) replace(empty, ...scheduleEmpty(ctx));
    empty.hidden = !nothing;
    scheduleEnds(ends, endings);
  }

  // What changes in one turn is shown once.
  function later() {
    if (!queued) queueMicrotask(show);
    queued = true;
  }

  ctx.watch(ctx.broker.schedule, (value) => {
    pending = value;
    later();
  });
  ctx.watch(ctx.broker.schedule.state, (value) => {
    state = value;
    later();
  });
  // One timer for all count-downs; the marks move with them.
  const timer = setInterval(show, 1_000);
  ctx.signal.addEventListener("abort", () => clearInterval(timer));
  const size = new ResizeObserver(() => line.draw());
  size.observe(line.element);
  ctx.signal.addEventListener("abort", () => size.disconnect());
  return screen;
}

/** @param {readonly Entry[]} entries */
function scheduleSummary(entries) {
  const ends = entries.filter((each) => each.kind === "end").length;
  const pending = entries.length - ends;
  if (!entries.length) return "";
  return [
    pending ? `${pending} pending` : "nothing is pending",
    ends && (ends === 1 ? "1 version ends by itself" : `${ends} versions end by themselves`),
    `times are in ${zone}`,
  ].filter(Boolean).join(" · ");
}

/** Says among how many versions the ends were looked for. @param {HTMLElement} place
 * @param {ReturnType<typeof followEndings>} endings */
function scheduleEnds(place, endings) {
  place.hidden = !endings.error && !endings.more;
  const shown = `${endings.looked} ${endings.error}`;
  if (place.hidden || place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  if (endings.error) return void (place.textContent = `When versions end cannot be read: ${endings.error}.`);
  const look = h("button", { class: "quiet", onclick: () => endings.look() }, "Look at older ones");
  replace(place, `Ends are shown of the newest ${endings.looked} events, and of what has changed since.`, " ", look);
}

/** @param {Context} ctx */
function scheduleEmpty(ctx) {
  const line = (/** @type {string} */ token) =>
    `curl ${ctx.broker.url}insert -H 'Content-Type: application/json' \\\n  -H "Authorization: Bearer ${token}" \\\n` +
    `  -d '{"event":"sale","data":{"percent":20},"timestamp":'$(($(date +%s)+30))'}'`;
  return [
    h("h2", null, "Nothing is scheduled"),
    h("p", null, "A version can have a time in the future: it is stored now, and published when its time has come, unless you " +
      "move or cancel it before. A version can also end by itself, at a time that is given with it."),
    h("p", null, h("a", { class: "button primary", href: eventRoute(), title: "New event (n)" }, "New event")),
    h("p", null, "Or paste this into a terminal. In half a minute, everybody who is connected has the sale:"),
    h("pre", { class: "code schedule-curl" }, line("$TOKEN")),
    h("p", null, copyButton(async () => line((await ctx.broker.token()) ?? "$TOKEN"), "Copy with my token")),
  ];
}

/** The list: its rows stay the same elements as long as their entries are there, so that focus stays, too.
 * @param {Context} ctx */
function scheduleList(ctx) {
  /** @type {Map<string, EntryRow>} */
  const rows = new Map();
  /** Rows of what has become due, which flash before they go. @type {Map<string, EntryRow>} */
  const leaving = new Map();
  let limit = SCHEDULE_PAGE;
  const groups = SCHEDULE_GROUPS.map((name, index) => {
    const list = h("ul", { class: "schedule-list", "aria-labelledby": `schedule-group-${index}` });
    return { list, element: h("section", { class: "schedule-group", hidden: true }, h("h2", { id: `schedule-group-${index}` }, name), list) };
  });
  const more = h("button", { class: "schedule-more", hidden: true }, `Show ${SCHEDULE_PAGE} more`);
  const element = h("div", { class: "schedule-groups" }, ...groups.map((each) => each.element), more);
  /** @type {readonly Entry[]} */
  let shown = [];

  /** @param {readonly Entry[]} entries @param {number} now */
  function show(entries, now) {
    shown = entries;
    const visible = entries.slice(0, limit);
    const keys = new Set(visible.map((each) => each.key));
    const focused = [...rows.values()].find((each) => each.element.contains(document.activeElement));
    for (const [key, row] of rows) if (!keys.has(key)) leave(key, row, now);
    for (const entry of visible) {
      const row = rows.get(entry.key);
      if (!row) rows.set(entry.key, entryRow(ctx, entry));
      else if (row.entry.at !== entry.at || row.entry.until !== entry.until || row.entry.user !== entry.user) row.show(entry);
    }
    const ordered = [...rows.values(), ...leaving.values()].sort((a, b) => a.entry.at - b.entry.at);
    groups.forEach(({ list, element: group }, index) => {
      const wanted = ordered.filter((each) => scheduleGroup(each.entry.at, now) === index);
      arrange(list, wanted);
      group.hidden = !wanted.length;
    });
    for (const row of rows.values()) row.tick(now);
    if (focused && !rows.has(focused.entry.key)) stay(focused.entry, ordered);
    more.hidden = entries.length <= limit;
  }

  /** The entry that had the focus has gone: it stays with the event, if that was moved, or with the next entry.
   * @param {Entry} entry @param {readonly EntryRow[]} ordered */
  function stay(entry, ordered) {
    const here = ordered.filter((each) => rows.has(each.entry.key));
    const next = here.find((each) => each.entry.event === entry.event) ?? here.find((each) => each.entry.at >= entry.at) ?? here.at(-1);
    (next?.element.querySelector("a") ?? document.getElementById("main"))?.focus();
  }

  /** What became due flashes and goes; what was cancelled or moved goes at once.
   * @param {string} key @param {EntryRow} row @param {number} now */
  function leave(key, row, now) {
    rows.delete(key);
    if (row.entry.at - now > SCHEDULE_EARLY_MS || row.element.hidden) return;
    leaving.set(key, row);
    row.tick(row.entry.at);
    row.element.classList.add("schedule-gone");
    row.element.inert = true;
    ctx.announce(`${row.entry.event} ${row.entry.kind === "end" ? "has ended" : "is published"}.`);
    setTimeout(() => {
      leaving.delete(key);
      row.element.remove();
      show(shown, ctx.broker.now());
    }, SCHEDULE_FLASH_MS);
  }

  more.addEventListener("click", () => {
    limit += SCHEDULE_PAGE;
    show(shown, ctx.broker.now());
  });

  return {
    element,
    show,
    get leaving() {
      return leaving.size > 0;
    },
    /** Shows the row of an entry. @param {string} key */
    reveal(key) {
      const row = rows.get(key);
      row?.element.scrollIntoView({ block: "center" });
      row?.element.querySelector("a")?.focus();
    },
  };
}

/** Puts rows into this order. Only rows that are in another place are touched, since an element that is inserted again
 * loses the focus. @param {HTMLElement} list @param {readonly EntryRow[]} wanted */
function arrange(list, wanted) {
  const elements = new Set(wanted.map((each) => each.element));
  for (const child of [...list.children]) if (!elements.has(/** @type {HTMLLIElement} */ (child))) child.remove();
  let next = list.firstElementChild;
  for (const { element } of wanted) {
    if (element === next) next = next.nextElementSibling;
    else {
      const focused = element.contains(document.activeElement) ? document.activeElement : null;
      list.insertBefore(element, next);
      if (focused instanceof HTMLElement) focused.focus();
    }
  }
}
