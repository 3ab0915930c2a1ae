// Sign-in and sign-up.

import { h, replace } from "./h.js";
import { redeemInvitation } from "./invitation.js";

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
