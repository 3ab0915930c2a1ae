// A screen that is not built yet.

import { h } from "./h.js";

/** @import { Context } from "./types.js" */

/** @param {Context} ctx */
export function scheduleScreen(ctx) {
  ctx.title("schedule");
  return h("p", { class: "empty" }, "schedule");
}
