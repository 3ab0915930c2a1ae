// A screen that is not built yet.

import { h } from "./h.js";

/** @import { Context } from "./types.js" */

/** @param {Context} ctx */
export function eventScreen(ctx) {
  ctx.title("event");
  return h("p", { class: "empty" }, "event");
}
