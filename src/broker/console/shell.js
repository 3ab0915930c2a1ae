// What is around each screen: the server's name, the navigation, the connection, and the user.

import { h, replace, svg } from "./h.js";
import { ask, toast } from "./dialog.js";

/** @import { Broker } from "../js/types.js" */
/** @import { About, Command, Route } from "./types.js" */

const PULSE = "M1.5 8h3L6.5 3l3 10 2-5h3";
/** The screens in the navigation: their names, their titles, and a drawing of 16 units.
 * @type {[string, string, string][]} */
const PLACES = [
  ["events", "Events", "M2 3.5h12M2 8h12M2 12.5h12"],
  ["schedule", "Schedule", "M8 4.5V8l2.5 2M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0"],
  ["inspector", "Inspector", PULSE],
];
const START = "M8 2l6 5v7H2V7z";
const SEARCH = "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9M10.5 10.5 14 14";

/** What the client's status means for whoever reads it. */
const STATUS = {
  idle: "", connecting: "connecting …", live: "live", reconnecting: "reconnecting …", offline: "offline", denied: "denied",
};

const THEMES = /** @type {const} */ (["auto", "light", "dark"]);

export class Shell {
  #broker;
  #mayLeave;
  #name = h("bdi", { class: "shell-name" });
  #dot = h("span", { class: "shell-dot" });
  #place = h("span", { class: "shell-place" }, this.#dot, this.#name);
  #nav = h("nav", { "aria-label": "Console" });
  #main = h("main", { id: "main", tabindex: "-1" });
  #live = h("p", { class: "visually-hidden", role: "status", "aria-live": "polite" });
  #status = h("span", { class: "shell-status" });
  #user = h("div", { class: "shell-user" });
  #open = h("p", { class: "shell-open", hidden: true, title: "This log has no rules: everybody who reaches the server may read everything, and every user may change everything (docs/access.md)" }, "Open: there are no rules");
  #server = "Broker";

  /** @param {Broker} broker @param {() => void} openPalette
   * @param {() => boolean | Promise<boolean>} mayLeave  asks before what was typed on the screen is lost */
  constructor(broker, openPalette, mayLeave) {
    this.#broker = broker;
    this.#mayLeave = mayLeave;
    themed(theme());
    const search = h("button", {
      class: "quiet shell-search", title: "Search, and run a command (Ctrl K)",
      "aria-keyshortcuts": "Control+K Meta+K", onclick: openPalette,
    }, icon(SEARCH), h("span", { class: "shell-wide" }, "Search"), h("kbd", { class: "shell-wide" }, "Ctrl K"));
    document.body.prepend(
      h("a", { class: "shell-skip", href: "#main", onclick: (/** @type {Event} */ event) => this.#skip(event) }, "Skip to the content"),
      h("header", { class: "shell" }, h("a", { class: "shell-server", href: "#/" },
        h("span", { class: "shell-mark" }, icon(PULSE)), h("span", { class: "shell-brand" }, "Broker"), this.#place),
      search, this.#nav, h("div", { class: "shell-foot" }, this.#open, this.#status, this.#user)),
      this.#main,
      this.#live,
      h("div", { id: "toasts", role: "status" }),
    );
  }

  /** @param {About} about */
  begin(about) {
    this.#server = about.console_name || location.host;
    this.#name.textContent = this.#server;
    this.#name.title = `Broker ${about.version} on ${location.host}`;
    // The colour comes from the name, so that two servers whose pages look the same are told apart at a glance.
    this.#dot.style.setProperty("--hue", String(hue(about.console_name)));
    this.#place.classList.toggle("named", Boolean(about.console_name));
    this.#broker.status.subscribe((status) => {
      this.#status.textContent = STATUS[status];
      this.#status.dataset.status = status;
    });
    this.#broker.user.subscribe(() => this.#showUser(about));
    this.#open.hidden = about.rules;
  }

  /** @param {Element} screen @param {Route} route @param {boolean} isFirst */
  show(screen, route, isFirst) {
    const places = this.#broker.user.get() ? [...PLACES, ["start", "First steps", START]] : [["start", "Start", START], PLACES[0]];
    const keys = new Map(this.commands().map((each) => [each.name, each.keys]));
    replace(this.#nav, places.map(([name, title, path]) =>
      h("a", { href: `#/${name}`, title: keys.get(title) && `${title} (${keys.get(title)})`, "aria-current": isAt(route, name) && "page" },
        icon(path), h("span", null, title))));
    replace(this.#main, screen);
    this.#main.dataset.screen = route.name;
    scrollTo(0, 0);
    // Whoever has followed a link goes on reading where the new screen begins.
    const first = /** @type {HTMLElement | null} */ (this.#main.querySelector("[autofocus]"));
    if (first) first.focus();
    else if (!isFirst && !this.#main.contains(document.activeElement)) this.#main.focus({ preventScroll: true });
  }

  /** @param {string} text */
  title(text) {
    document.title = `${text} · ${this.#server}`;
  }

  /** @param {string} text */
  announce(text) {
    this.#live.textContent = text;
  }

  /** @returns {Command[]} */
  commands() {
    const go = (/** @type {string} */ hash) => () => (location.hash = hash);
    const user = this.#broker.user.get();
    return [
      { name: "Events", keys: "g e", run: go("#/events") },
      { name: "Schedule", keys: "g s", run: go("#/schedule") },
      { name: "Inspector", keys: "g i", run: go("#/inspector") },
      { name: "First steps", run: go("#/start") },
      { name: "New event", keys: "n", run: go("#/event") },
      ...THEMES.map((each) => ({ name: `Theme: ${each}`, run: () => themed(each) })),
      user ? { name: `Sign out (${user.username})`, run: () => this.signOut() } : { name: "Sign in", run: go("#/sign-in") },
    ];
  }

  async signOut() {
    if (!(await this.#mayLeave())) return;
    const unsent = this.#broker.outbox.get().length;
    if (unsent) {
      const sure = await ask({
        title: "Discard what is not sent?", confirm: "Discard and sign out", danger: true,
        body: `${unsent} ${unsent === 1 ? "write has" : "writes have"} not reached the server yet.`,
      });
      if (!sure) return;
    }
    await this.#broker.logOut({ discard: true });
    location.hash = "#/sign-in";
    toast("You are signed out.");
  }

  /** @param {About} about */
  #showUser(about) {
    const user = this.#broker.user.get();
    if (!user || user.expired) {
      const label = user ? "Sign in again" : "Sign in";
      return replace(this.#user, about.first_run ? null : h("a", { href: "#/sign-in" }, label));
    }
    replace(this.#user, h("bdi", { class: "shell-username", title: user.username }, user.username),
      h("button", { class: "quiet", onclick: () => this.signOut() }, "Sign out"));
  }

  /** @param {Event} event */
  #skip(event) {
    event.preventDefault(); // the address says which screen is shown
    this.#main.focus();
  }
}

/** @param {string} path */
function icon(path) {
  return svg("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, svg("path", { d: path }));
}

/** @param {Route} route @param {string} place */
const isAt = (route, place) => route.name === place || (route.name === "event" && place === "events");

/** A colour of the circle, in degrees. @param {string} text */
function hue(text) {
  let sum = 0;
  for (const each of text) sum = (sum * 31 + (each.codePointAt(0) ?? 0)) % 360;
  return sum;
}

/** @returns {string} */
function theme() {
  try {
    return localStorage.getItem("broker console theme") ?? "auto";
  } catch {
    return "auto";
  }
}

/** @param {string} name */
function themed(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("broker console theme", name);
  } catch {} // then it lasts as long as the page
}
