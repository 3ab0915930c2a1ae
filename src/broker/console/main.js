// The console: one client, one shell, and one screen at a time, which the address chooses.

import { createBroker } from "../js/broker.js";
import { problemOf } from "./api.js";
import { ScreenContext } from "./context.js";
import { toast } from "./dialog.js";
import { eventsScreen } from "./events.js";
import { h } from "./h.js";
import { routeOf } from "./router.js";
import { Shell } from "./shell.js";
import { styled } from "./styles.js";

/** @import { About, Command, Context, Screen } from "./types.js" */

const server = new URL("../../", import.meta.url);
const broker = createBroker(server);

/** The screens: the one that is needed most, and the others, which are loaded when they are opened.
 * @type {{[name: string]: () => Screen | Promise<Screen>}} */
const SCREENS = {
  events: () => eventsScreen,
  "sign-in": async () => (await import("./account.js")).signInScreen,
  start: async () => (await import("./start.js")).startScreen,
  event: async () => (await styled("event", import("./event.js"))).eventScreen,
  schedule: async () => (await styled("schedule", import("./schedule.js"))).scheduleScreen,
  inspector: async () => (await styled("inspector", import("./inspector.js"))).inspectorScreen,
};

/** @type {About} */
let about;
/** @type {Shell} */
let shell;
/** @type {ScreenContext | undefined} */
let current;
/** The address of the screen that is shown. */
let shown = "";
let opened = 0;
let asking = false; // whether the screen may be left

/** Opens the screen that the address names. */
async function open() {
  let turn = ++opened;
  const left = current;
  if (left && (left.isElsewhere(location.hash) || left.context.signal.aborted)) {
    if (asking) return; // the address that is there after the answer counts
    asking = true;
    const mayLeave = await left.mayLeave();
    asking = false;
    if (!mayLeave) return history.pushState(null, "", shown);
    if (left !== current) return;
    turn = ++opened;
  } else if (left) return;
  const route = routeOf(location.hash);
  const load = Object.hasOwn(SCREENS, route.name) ? SCREENS[route.name] : undefined;
  if (!load) return location.replace(home());
  let screen;
  try {
    screen = await load();
  } catch {
    screen = () => h("p", { class: "error" }, "This screen could not be loaded. Is the server still running? ", retry());
  }
  if (turn !== opened) return;
  const isFirst = !left;
  left?.end();
  const made = new ScreenContext(broker, about, route, {
    title: (text) => shell.title(text),
    announce: (text) => shell.announce(text),
    moved: () => (shown = location.hash),
    renew: again,
  });
  current = made;
  shown = location.hash;
  shell.show(screen(made.context), route, isFirst);
}

function retry() {
  return h("button", { onclick: () => location.reload() }, "Try again");
}

/** Where one begins: with an account that is to be made, with a login, or with the events. */
function home() {
  if (broker.user.get()) return "#/events";
  return about.first_run ? "#/start" : "#/sign-in";
}

/** Opens the same screen anew, for another user, or because of other rights. */
function again() {
  current?.end();
  if (current) open();
}

/** @returns {Command[]} */
function commands() {
  return [...shell.commands(), ...(current?.extra ?? [])];
}

/** What is done because of the last key. @type {Promise<void>} */
let pressed = Promise.resolve();

/** @param {KeyboardEvent} event */
function press(event) {
  const asksForPalette = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key === "k";
  if (asksForPalette) {
    event.preventDefault();
    return openPalette();
  }
  const target = /** @type {HTMLElement} */ (event.target);
  const types = target.closest("input, textarea, select, [contenteditable], dialog");
  if (types || event.ctrlKey || event.metaKey || event.altKey || event.key.length > 1) return;
  if (event.key === "/") event.preventDefault(); // some browsers search in the page
  const { key } = event;
  // In the order of the keys, also while the palette is being loaded.
  pressed = pressed.then(() => withPalette((palette, ctx) => palette.press(key, ctx, commands())));
}

async function openPalette() {
  await withPalette((palette, ctx) => palette.openPalette(ctx, commands()));
}

/** The palette is loaded when it is needed for the first time.
 * @param {(palette: typeof import("./palette.js"), ctx: Context) => void} run */
async function withPalette(run) {
  try {
    const palette = await styled("palette", import("./palette.js"));
    if (current) run(palette, current.context);
  } catch {
    toast("The palette could not be loaded. Is the server still running?");
  }
}

async function start() {
  shell = new Shell(broker, openPalette, () => current?.mayLeave() ?? true);
  const response = await fetch(new URL("about", server));
  if (!response.ok) throw await problemOf(response);
  about = await response.json();
  shell.begin(about);
  addEventListener("hashchange", open);
  addEventListener("keydown", press);
  let user = broker.user.get();
  broker.user.subscribe((next) => {
    if (next?.username !== user?.username || next?.expired !== user?.expired) {
      about.first_run &&= !next;
      user = next;
      again();
    }
  });
  await open();
}

start().catch((error) => {
  document.body.append(h("main", null, h("p", { class: "error", role: "alert" }, `The console cannot start: ${error.message} `, retry())));
});
