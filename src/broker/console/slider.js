// The slider of time.

import { h } from "./h.js";

/** @import { Context } from "./types.js" */

/** @param {Context} ctx @param {{at: number | null, change: (time: number | null) => void}} options */
export function slider(ctx, options) {
  return h("p", { class: "muted" }, "");
}
