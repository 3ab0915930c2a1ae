// The code of the link that `broker serve` prints as long as there is no administrator: who sends it becomes one.

import { problemOf } from "./api.js";
import { toast } from "./dialog.js";

/** @import { Context } from "./types.js" */

/** It outlives the screen, which the login makes anew, and is forgotten when the server has accepted or refused it. */
let invitation = "";

/** Takes the code out of the address: it is a secret, which nobody should find there, or in the history of the browser.
 * @param {Context} ctx */
export function takeInvitation(ctx) {
  invitation = ctx.query.get("admin") ?? invitation;
  ctx.setQuery("admin", null);
  return invitation !== "";
}

/** Makes whoever is signed in an administrator. @param {Context} ctx */
export async function redeemInvitation(ctx) {
  if (!invitation || !ctx.broker.user.get()) return;
  // The screen may end with the login, so this is no request of it.
  const headers = { Authorization: `Bearer ${await ctx.broker.token()}`, "Content-Type": "application/json" };
  const request = { method: "POST", headers, body: JSON.stringify({ code: invitation }) };
  const response = await fetch(new URL("admin", ctx.broker.url), request).catch(() => null);
  if (!response || response.status >= 500) return toast("The server could not make you its administrator now. Reload the page to try again.");
  invitation = "";
  toast(response.ok ? "You are the administrator of this server." : (await problemOf(response)).message);
}
