// The screen of one event: what it is, what one may do with it, and its tabs.

import { codeTab } from "./code.js";
import { copyButton } from "./copy.js";
import { editTab } from "./editor.js";
import { h, replace } from "./h.js";
import { historyTab } from "./history.js";
import { nameProblem } from "./name.js";
import { eventRoute, eventsRoute } from "./router.js";
import { Subject } from "./subject.js";
import { timeOf } from "./version.js";
import { byWhom, everySecond, timeElement } from "./words.js";

/** @import { Child, Context } from "./types.js" */
/** @import { EventFacts } from "./subject.js" */

/** @type {{[tab: string]: [string, (ctx: Context, subject: Subject) => Element]}} */
const EVENT_TABS = { "": ["Edit", editTab], history: ["History", historyTab], code: ["Code", codeTab] };

/** @param {Context} ctx */
export function eventScreen(ctx) {
  const [name, tab] = nameAndTab(ctx.params);
  if (!name || nameProblem(name)) return newEvent(ctx, name || (ctx.query.get("name") ?? ""));
  const [title, content] = Object.hasOwn(EVENT_TABS, tab) ? EVENT_TABS[tab] : EVENT_TABS[""];
  ctx.title(tab ? `${name}, ${title.toLowerCase()}` : name);
  const subject = new Subject(ctx, name);
  ctx.commands(Object.entries(EVENT_TABS).map(([to, [label]]) => ({ name: `${label}: ${name}`, run: () => ctx.go(eventRoute(name, to)) })));
  const tabs = Object.entries(EVENT_TABS).map(([to, [label]]) =>
    h("a", { href: eventRoute(name, to), "aria-current": label === title && "page" }, label));
  return h("div", { class: "event" },
    h("header", { class: "event-head" }, heading(name), eventState(ctx, subject)),
    h("nav", { class: "tabs", "aria-label": "Views of this event" }, tabs),
    content(ctx, subject));
}

/** The name and the tab. Somebody who types an address writes the slashes of a name as they are.
 * @param {string[]} params */
function nameAndTab(params) {
  const hasTab = params.length > 1 && Object.hasOwn(EVENT_TABS, params.at(-1) ?? "");
  return hasTab ? [params.slice(0, -1).join("/"), params.at(-1) ?? ""] : [params.join("/"), ""];
}

/** Each part of the name leads to the events that begin like it. @param {string} name */
function heading(name) {
  const parts = name.split(/(?<=\/)/);
  const links = parts.slice(0, -1).map((part, index) => h("a", { href: eventsRoute({ under: parts.slice(0, index + 1).join("") }) }, h("bdi", null, part)));
  return h("div", { class: "event-name" }, h("a", { class: "event-back", href: eventsRoute() }, "Events"), h("h1", { class: "mono" }, links, h("bdi", null, parts.at(-1))), copyButton(name, "Copy", "Copy the name"));
}

/** The state in words, which follows the server and the clock. @param {Context} ctx @param {Subject} subject */
function eventState(ctx, subject) {
  const place = h("p", { class: "event-state" });
  const show = (/** @type {EventFacts} */ facts) => replace(place, stateWords(facts, ctx.broker.now()));
  ctx.watch(subject, show);
  everySecond(ctx, () => show(subject.get()));
  return place;
}

/** @param {EventFacts} facts @param {number} now @returns {Child[]} */
function stateWords({ known, latest, removal, rights, pending, error }, now) {
  if (error) return [h("span", { class: "badge danger" }, "not known"), ` ${error}`];
  if (!known) return [h("span", { class: "badge" }, "loading …")];
  const more = pending.length > 0 && [" · ", `${pending.length} pending`];
  if (!rights.read) return [h("span", { class: "badge warn" }, "hidden"), " You may not read this event.", more];
  if (latest)
    return [h("span", { class: "badge ok" }, "current"), " ", byWhom(latest, now),
      latest.until !== undefined && [" · ends ", timeElement(1_000 * latest.until, now)], more];
  if (!removal) return [h("span", { class: "badge" }, rights.log ? "not there yet" : "no value"), more];
  if (removal.ends) return [h("span", { class: "badge" }, "ended"), " ", timeElement(timeOf(removal), now), more];
  return [h("span", { class: "badge" }, "removed"), " ", byWhom(removal, now), more];
}

/** The form for the name of a new event. @param {Context} ctx @param {string} name */
function newEvent(ctx, name) {
  ctx.title("New event");
  const input = h("input", {
    id: "event-new-name", class: "mono", value: name, autofocus: true, autocapitalize: "none", autocomplete: "off", spellcheck: false,
    placeholder: "orders/42", "aria-describedby": "event-new-rules event-new-problem",
  });
  const problem = h("p", { id: "event-new-problem", class: "error", role: "alert", hidden: true });
  const check = () => {
    const message = nameProblem(input.value);
    problem.hidden = !message;
    problem.textContent = message;
    input.setAttribute("aria-invalid", String(Boolean(message)));
    return !message;
  };
  input.oninput = () => (input.value || !problem.hidden) && check();
  input.setSelectionRange(name.length, name.length);
  if (ctx.params[0]) check();
  const form = h("form", { class: "card event-new" },
    h("label", { class: "field", for: "event-new-name" }, h("span", null, "Name"), input), problem,
    h("p", { id: "event-new-rules", class: "muted" }, "1 to 255 bytes, such as ", h("code", null, "sale"), " or ", h("code", null, "orders/42"),
      ". A slash makes groups, and ", h("code", null, "*"), " and a leading ", h("code", null, "$"), " are not allowed."),
    h("div", { class: "toolbar" }, h("button", { class: "primary" }, "Continue")));
  form.onsubmit = (event) => {
    event.preventDefault();
    if (check()) ctx.go(eventRoute(input.value));
    else input.focus();
  };
  return h("div", { class: "event" }, h("h1", null, "New event"), form);
}
