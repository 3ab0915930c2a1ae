// The screen Schedule: what is pending, and when versions end, with count-downs on the server's clock.

import { followEndings } from "./endings.js";
import { entryOfEnding, entryOfPending } from "./entry.js";
import { EntryList } from "./entrylist.js";
import { copyButton } from "./copy.js";
import { h, replace } from "./h.js";
import { timeline } from "./timeline.js";
import { zone } from "./times.js";

/** @import { CollectionState, Pending } from "../js/types.js" */
/** @import { Entry } from "./entry.js" */
/** @import { Context } from "./types.js" */

const SCHEDULE_NEW = "#/event?when=at";

/** @param {Context} ctx */
export function scheduleScreen(ctx) {
  ctx.title("Schedule");
  return new Schedule(ctx).element;
}

class Schedule {
  #ctx;
  #list;
  #line = timeline((key) => this.#list.reveal(key));
  #endings;
  /** @type {readonly Pending[]} */
  #pending = [];
  /** @type {CollectionState} */
  #state = { status: "loading", pending: 0 };
  #queued = false;

  #summary = h("p", { class: "schedule-summary muted" });
  #problem = h("p", { class: "error", role: "alert", hidden: true });
  #body;
  #empty = h("div", { class: "empty", hidden: true });
  #ends = h("p", { class: "schedule-ends muted" });

  /** @param {Context} ctx */
  constructor(ctx) {
    this.#ctx = ctx;
    this.#list = new EntryList(ctx);
    this.#body = h("div", { class: "schedule-body", "aria-busy": "true" }, this.#line.element, this.#list.element);
    this.element = h("section", { class: "schedule", "aria-labelledby": "schedule-title" },
      h("header", { class: "schedule-head" }, h("h1", { id: "schedule-title" }, "Schedule"), this.#summary,
        ctx.broker.user.get() && h("a", { class: "button primary schedule-new", href: SCHEDULE_NEW }, "Schedule an event")),
      this.#problem, this.#body, this.#empty, this.#ends);
    this.#endings = followEndings(ctx, () => this.#later());
    ctx.watch(ctx.broker.schedule, (value) => {
      this.#pending = value;
      this.#later();
    });
    ctx.watch(ctx.broker.schedule.state, (value) => {
      this.#state = value;
      this.#later();
    });
    // One timer for all count-downs; the marks move with them.
    const timer = setInterval(() => this.#show(), 1_000);
    const size = new ResizeObserver(() => this.#line.draw());
    size.observe(this.#line.element);
    ctx.signal.addEventListener("abort", () => {
      clearInterval(timer);
      size.disconnect();
    });
  }

  /** What changes in one turn is shown once. */
  #later() {
    if (!this.#queued) queueMicrotask(() => this.#show());
    this.#queued = true;
  }

  #show() {
    this.#queued = false;
    if (this.#ctx.signal.aborted) return;
    const now = this.#ctx.broker.now();
    const entries = [...this.#pending.map(entryOfPending), ...this.#endings.list().map(entryOfEnding)].sort((a, b) => a.at - b.at);
    this.#list.show(entries, now);
    this.#line.show(entries, now);
    const isLoading = this.#state.status === "loading" && !entries.length;
    const isDenied = this.#state.status === "denied";
    this.#body.setAttribute("aria-busy", String(isLoading));
    this.#body.hidden = !entries.length && !this.#list.leaving;
    this.#summary.textContent = isLoading ? "Reading what is pending …" : scheduleSummary(entries);
    this.#showDenied(isDenied);
    const isEmpty = this.#body.hidden && !isLoading && !isDenied;
    if (isEmpty && this.#empty.hidden) replace(this.#empty, ...scheduleEmpty(this.#ctx));
    this.#empty.hidden = !isEmpty;
    scheduleEnds(this.#ends, this.#endings);
  }

  /** @param {boolean} isDenied */
  #showDenied(isDenied) {
    this.#problem.hidden = !isDenied;
    const why = this.#state.error?.message ?? "it is denied";
    if (!isDenied || this.#problem.dataset.shown === why) return;
    this.#problem.dataset.shown = why; // said once, and not every second
    replace(this.#problem, `What is pending cannot be shown: ${why}. `, !this.#ctx.broker.user.get() && h("a", { href: "#/sign-in" }, "Sign in"));
  }
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
    h("p", null, "Or paste this into a terminal. In half a minute, everybody who is connected has the sale:"),
    h("pre", { class: "code schedule-curl" }, line("$TOKEN")),
    h("p", null, copyButton(async () => line((await ctx.broker.token()) ?? "$TOKEN"), "Copy with my token")),
  ];
}
