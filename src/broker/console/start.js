// The first minute: an account, an insert that is seen at once, the same from a terminal, and the way back in time.

import { accountForm, redeemInvitation, sentence, takeInvitation } from "./account.js";
import { h, replace } from "./h.js";
import { eventRoute } from "./router.js";
import { terminalLine } from "./terminal.js";
import { randomUuid } from "./uuid.js";

/** @import { Context } from "./types.js" */

const SHOWN = 8; // events in the pane
const DUE = 1_000; // planned records among which those are looked for that will be there
const EXAMPLE = ["greeting", '{"text": "Hello"}'];

/** @param {Context} ctx */
export function startScreen(ctx) {
  const invited = takeInvitation(ctx);
  ctx.title("Start");
  const user = ctx.broker.user.get();
  if (!user || user.expired) return welcome(ctx, invited);
  redeemInvitation(ctx);
  return firstSteps(ctx);
}

/** @param {Context} ctx @param {boolean} invited  to be the administrator */
function welcome(ctx, invited) {
  const { first_run: first, signup } = ctx.about;
  const isNew = first && signup;
  const what = isNew
    ? invited ? "Create the first user. It will be the administrator of this server." : "Create the first user, and see your first event in a minute."
    : first ? "This server has no user yet, and sign-up is closed. Whoever runs it creates users with broker user add NAME." : "Sign in to insert events.";
  return h("div", { class: "start-welcome" },
    h("h1", null, "A real-time API without backend code"),
    h("p", { class: "start-lead" }, "A page inserts events as JSON. Broker keeps every version, and every connected page receives them at once."),
    h("div", { class: "card account" }, h("h2", null, isNew ? "Welcome" : "Sign in"), h("p", null, what),
      (signup || !first) && accountForm(ctx, { isNew, done: () => redeemInvitation(ctx) })));
}

/** @param {Context} ctx */
function firstSteps(ctx) {
  const pane = livePane(ctx);
  const name = h("input", { name: "event", value: EXAMPLE[0], required: true, maxLength: 255, autocapitalize: "none", spellcheck: false, class: "mono" });
  return h("div", { class: "start" },
    h("header", null, h("h1", null, "First steps"),
      h("p", { class: "muted" }, "No schema is needed: an event is a name with any JSON as its value. Insert it again, and that is its next version.")),
    h("section", { class: "card start-step" }, h("h2", null, number(1), "Insert an event"), insertForm(ctx, name)),
    h("section", { class: "card start-pane" }, h("h2", null, "What every connected page sees"), pane.element,
      h("div", { class: "start-step" }, h("h2", null, number(2), "Go back in time"),
        h("p", { class: "muted" }, "Broker keeps every version. The slider shows the state as it was; and beyond now, as it will be with what is scheduled."),
        pane.slider)),
    h("section", { class: "card start-step" }, h("h2", null, number(3), "Insert one from a terminal"),
      h("p", { class: "muted" }, "Copy this line with your token in it, paste it into a terminal, and watch the events change. The token is valid until you sign out."), curlLine(ctx, name)),
    h("footer", { class: "toolbar" }, h("a", { class: "button", href: "#/events" }, "All events"),
      h("a", { class: "button", href: eventRoute() }, "New event, now or later"),
      h("a", { class: "button", href: new URL("docs", ctx.broker.url).href }, "API documentation")));
}

/** @param {number} count */
const number = (count) => h("span", { class: "start-number" }, count);

/** @param {Context} ctx @param {HTMLInputElement} name */
function insertForm(ctx, name) {
  const data = h("input", { name: "data", value: EXAMPLE[1], required: true, spellcheck: false, class: "mono", autofocus: true });
  const error = h("p", { class: "error", role: "alert", hidden: true });
  let [sent, uuid] = ["", ""]; // what is sent again, because its response was lost, is stored once
  const form = h("form", { class: "start-insert" },
    h("label", { class: "field" }, h("span", null, "Event"), name),
    h("label", { class: "field" }, h("span", null, "Data (JSON, or plain text)"), data), error, h("button", { class: "primary" }, "Insert"));
  form.onsubmit = async (event) => {
    event.preventDefault();
    error.hidden = true;
    try {
      const body = `"event":${JSON.stringify(name.value)},"data":${jsonOf(data.value)}}`;
      if (body !== sent) [sent, uuid] = [body, randomUuid()];
      await ctx.api.post("insert", `{"uuid":"${uuid}",${body}`);
      sent = "";
      ctx.announce(`${name.value} was inserted`);
      data.select();
    } catch (reason) {
      if (ctx.signal.aborted) return;
      error.textContent = sentence(/** @type {Error} */ (reason).message);
      error.hidden = false;
    }
  };
  return form;
}

/** What looks like no JSON is a text. What begins like JSON, and is none, is a slip: raises SyntaxError.
 * @param {string} text */
function jsonOf(text) {
  try {
    JSON.parse(text);
    return text;
  } catch (error) {
    if (/^\s*[[{"]/.test(text)) throw new SyntaxError(`this is not valid JSON: ${/** @type {Error} */ (error).message}`);
    return JSON.stringify(text);
  }
}

/** @param {Context} ctx @param {HTMLInputElement} name */
function curlLine(ctx, name) {
  const { element, update } = terminalLine(ctx, () => name.value);
  ctx.listen(name, "input", update);
  return element;
}

/** The newest events, live; or as they were or will be at the time of the slider. @param {Context} ctx */
function livePane(ctx) {
  const list = h("ul", { class: "start-list" });
  const recent = ctx.broker.events("", { last: SHOWN });
  /** What is shown, the newest first: the data, and when its change was seen; 0 is what was there before.
   * @type {Map<string, [unknown, number]>} */
  let newest = new Map();
  let at = "";
  let begun = false;
  recent.ready.then(() => (begun = true), () => {});
  /** Of two ids, the one with the larger number is the later one; what is not stored yet is the latest. */
  const position = (/** @type {string} */ name) => Number(ctx.broker.event(name).state.get().id?.split("-").at(-1) ?? Infinity) || 0;

  const show = (/** @type {[string, unknown, number?][]} */ rows) =>
    replace(list, rows.length ? rows.map(([name, data, seen]) => row(name, data, seen)) : h("li", { class: "empty" },
      at ? "There was no event at this time." : "There is no event yet. Insert one."));
  const showLive = () => show([...newest].map(([name, [data, seen]]) => [name, data, seen]));
  const records = async (/** @type {string} */ path) => /** @type {Promise<any[]>} */ ((await ctx.api.get(path)).json());
  const showThen = async () => {
    const asked = at;
    // There is no order of what is planned: what is due until then comes first, the latest before the others.
    const due = 1_000 * Number(at) < ctx.broker.now() ? null : await records(`pending?limit=${DUE}`);
    const names = due && [...new Set([...due.filter((each) => each.timestamp <= Number(at)).reverse().map((each) => each.event), ...newest.keys()])].slice(0, SHOWN);
    const query = names ? names.map((name) => `event=${encodeURIComponent(name)}&`).join("") : `order=newest&limit=${SHOWN}&`;
    const then = names?.length === 0 ? [] : await records(`snapshot?${query}at=${at}`);
    if (names) then.sort((one, other) => names.indexOf(one.event) - names.indexOf(other.event));
    if (asked === at) show(then.map((record) => [record.event, record.data]));
  };

  ctx.signal.addEventListener("abort", recent.changes((keys, all) => {
    const time = begun ? performance.now() : 0;
    // Only what has changed is looked at: a page with very many events has no time for all of them in each frame.
    const changed = [...keys].filter((key) => all.has(key)).sort((one, other) => position(other) - position(one));
    const added = changed.map((key) => /** @type {[string, [unknown, number]]} */ ([key, [all.get(key), time]]));
    newest = new Map([...added, ...[...newest].filter(([key]) => !keys.has(key))].slice(0, SHOWN));
    if (!at) showLive();
  }));
  const time = h("div");
  const change = (/** @type {number | null} */ chosen) => {
    at = chosen === null ? "" : String(chosen / 1_000);
    if (at) showThen().catch(() => {});
    else showLive();
  };
  import("./slider.js").then(({ slider }) => ctx.signal.aborted || time.append(slider(ctx, { at: null, change })), () => {});
  return { element: h("div", null, list), slider: time };
}

/** @param {string} name @param {unknown} data @param {number} [seen] */
function row(name, data, seen) {
  const isNew = seen && performance.now() - seen < 1_000;
  const text = JSON.stringify(data) ?? "";
  return h("li", { class: isNew && "flash" }, h("a", { class: "mono", href: eventRoute(name) }, h("bdi", null, name)),
    h("bdi", { class: "mono start-data" }, text.length > 200 ? `${text.slice(0, 200)}…` : text));
}
