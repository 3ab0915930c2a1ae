// Sign-in and sign-up, and the link that makes the first administrator.

import { problemOf } from "./api.js";
import { toast } from "./dialog.js";
import { h, replace } from "./h.js";

/** @import { Context } from "./types.js" */

/** @param {Context} ctx */
export function signInScreen(ctx) {
  ctx.title("Sign in");
  const { expired, username } = ctx.broker.user.get() ?? {};
  const place = h("div", { class: "card account" });
  const show = (/** @type {boolean} */ isNew) =>
    replace(place, h("h1", null, isNew ? "Create an account" : expired ? "Your session has ended" : "Sign in"),
      accountForm(ctx, { isNew, username, done: () => (redeemInvitation(ctx), ctx.go("#/events")) }),
      ctx.about.signup && h("p", { class: "muted" }, isNew ? "You have an account? " : "You have no account? ",
        h("button", { class: "link", onclick: () => show(!isNew) }, isNew ? "Sign in" : "Create one")),
      h("p", { class: "muted" }, "What is public can be read ", h("a", { href: "#/events" }, "without an account"), "."));
  show(false);
  return place;
}

/** The form of both. @param {Context} ctx
 * @param {{isNew: boolean, username?: string, label?: string, done: (username: string) => unknown}} options */
export function accountForm(ctx, { isNew, username = "", label, done }) {
  const name = h("input", { name: "username", required: true, autocomplete: "username", autocapitalize: "none", spellcheck: false, value: username, autofocus: !username });
  const password = h("input", { name: "password", type: "password", required: true, minLength: isNew ? 8 : 1, autocomplete: isNew ? "new-password" : "current-password", autofocus: Boolean(username) });
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const button = h("button", { class: "primary" }, label ?? (isNew ? "Create account" : "Sign in"));
  const form = h("form", { class: "account-form" },
    h("label", { class: "field" }, h("span", null, "User name"), name),
    h("label", { class: "field" }, h("span", null, "Password"), password, isNew && h("small", { class: "muted" }, "8 characters or more")),
    error, button);
  form.onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    error.hidden = true;
    try {
      const enter = isNew ? ctx.broker.signUp : ctx.broker.logIn;
      await enter(name.value, password.value);
      await done(name.value);
    } catch (reason) {
      error.textContent = reason instanceof Error ? sentence(reason.message) : String(reason);
      error.hidden = false;
    } finally {
      button.disabled = false;
    }
  };
  return form;
}

/** @param {string} text  the server's messages begin with a small letter and have no full stop */
export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "");

/** The code of the link that `broker serve` prints as long as there is no administrator: who sends it becomes one. It
 * outlives the screen, which the login makes anew, and is forgotten when the server has accepted or refused it. */
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
  toast(response.ok ? "You are the administrator of this server." : sentence((await problemOf(response)).message));
}
