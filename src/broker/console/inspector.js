// A screen that is not built yet.

import { h } from "./h.js";

/** @import { Context } from "./types.js" */

/** @param {Context} ctx */
export function inspectorScreen(ctx) {
  ctx.title("inspector");
  return h("p", { class: "empty" }, "inspector");
}
