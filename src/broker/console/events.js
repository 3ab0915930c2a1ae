// A screen that is not built yet.

import { h } from "./h.js";

/** @import { Context } from "./types.js" */

/** @param {Context} ctx */
export function eventsScreen(ctx) {
  ctx.title("events");
  return h("p", { class: "empty" }, "events");
}
