// A line for a terminal that inserts an event.

import { copyButton } from "./copy.js";
import { h } from "./h.js";

/** @import { Context } from "./types.js" */

/** The line, with a button that copies it. The token is in what is copied, and not on the screen.
 * @param {Context} ctx @param {() => string} event  the name, as it is now */
export function terminalLine(ctx, event) {
  const body = () => JSON.stringify({ event: event(), data: { text: "Hello from a terminal" } }).replaceAll("'", "'\\''");
  const line = (/** @type {string | null} */ token) =>
    `curl ${new URL("insert", ctx.broker.url)} -H 'Authorization: Bearer ${token}' -H 'Content-Type: application/json' -d '${body()}'`;
  const shown = h("pre", { class: "code", tabindex: "0", "aria-label": "The line for a terminal" });
  const update = () => (shown.textContent = line("…"));
  update();
  const whole = async () => line(await ctx.broker.token());
  return { element: h("div", { class: "code" }, shown, copyButton(whole, "Copy", "Copy the line for a terminal, with your token")), update };
}
