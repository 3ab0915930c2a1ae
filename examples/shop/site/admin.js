// The page for the administrator.
// @ts-check

import { broker, by, left, money, offers, prices, products, show, watch, when } from "./parts.js";

/** @typedef {import("/broker.js").Pending} Pending */

/** @type {Map<string, string>} */
const names = new Map();

// Products, and their prices.

watch((rows) => {
  names.clear();
  for (const { key, name } of rows) names.set(key, name);
  show(by("products"), "product", rows, (part, { key, name, cents, offer }) => {
    part("name").textContent = name;
    const [now, then] = [offer?.cents ?? cents, cents === undefined ? "" : `, then ${money(cents)} again`];
    part("price").textContent = now === undefined ? "no price" : money(now);
    part("offer").textContent = offer ? `Offer until ${when(offer.ends)}${then}` : "";
    part("end").hidden = !offer;
    part("end").ariaLabel = `End the offer of ${name}`;
    part("end").onclick = () => {
      by("products-title").focus();
      attempt(() => offers.remove(key), `The offer of ${name} has ended.`);
    };
  });
  show(by("choice"), "option", rows, (_, { key, name }, option) => Object.assign(option, { value: key, textContent: name }));
  by("price").hidden = rows.length === 0;
});

by("product-form").onsubmit = (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const { name, euros } = by("product-form").elements;
  attempt(async () => {
    const stored = broker.batch(() => {
      const { key } = products.add({ name: name.value });
      prices.set(key, { cents: Math.round(100 * euros.valueAsNumber) });
    });
    by("product-form").reset();
    name.focus();
    await stored;
  }, `${name.value} is for sale.`);
};

by("price").onsubmit = (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const { product, euros, from, until } = by("price").elements;
  const fields = () => [product, euros, from, until].map((each) => each.value).join();
  const sent = fields();
  const cents = Math.round(100 * euros.valueAsNumber);
  const at = from.value ? new Date(from.value) : undefined;
  const ends = until.value ? new Date(until.value) : undefined;
  const name = names.get(product.value);
  attempt(async () => {
    if (ends && Number(ends) <= Number(at ?? broker.now())) throw new Error("the price must end after it begins");
    // A page that was left open must not change a price at once that was meant for a time.
    const times = { ...(at && { at, ifLate: /** @type {const} */ ("refuse") }), ...(ends && { until: ends }) };
    const stored = ends ? offers.set(product.value, { cents, ends: Number(ends) }, times) : prices.set(product.value, { cents }, times);
    // What somebody has typed in the meantime stays.
    stored.then(() => fields() === sent && by("price").reset(), () => {});
    await stored;
  }, `${name}: ${money(cents)}${at ? ` from ${when(Number(at))}` : ""}${ends ? ` until ${when(Number(ends))}` : ""}.`);
};

// What is pending.

/** @type {readonly Pending[]} */
let pending = [];
/** @param {readonly Pending[]} list */
function plan(list) {
  pending = list.filter(({ event }) => /^(prices|offers)\//.test(event));
  by("nothing").hidden = pending.length > 0;
  showPending();
}
setInterval(showPending, 1_000);

function showPending() {
  const rows = pending.map((each) => ({ ...each, key: each.uuid }));
  show(by("pending"), "planned", rows, (part, { uuid, event, data, at, until }) => {
    const name = names.get(event.replace(/^\w+\//, "")) ?? "A product";
    const cents = /** @type {any} */ (data)?.cents;
    part("name").textContent = name;
    part("price").textContent = cents === undefined ? "ends" : money(cents);
    part("time").textContent = `${when(at)}${until ? ` – ${when(until)}` : ""}`;
    part("left").textContent = left(at);
    part("to").ariaLabel = `New time for ${name}`;
    part("open").ariaLabel = `Move the price of ${name}`;
    part("open").onclick = () => {
      part("to").value = new Date(at - 60_000 * new Date(at).getTimezoneOffset()).toISOString().slice(0, 16);
      [part("move").hidden, part("buttons").hidden] = [false, true];
      part("to").focus();
    };
    part("back").onclick = () => {
      [part("move").hidden, part("buttons").hidden] = [true, false];
      part("open").focus();
    };
    part("cancel").ariaLabel = `Cancel the price of ${name}`;
    part("move").onsubmit = (/** @type {SubmitEvent} */ submit) => {
      submit.preventDefault();
      const to = new Date(part("to").value);
      by("pending-title").focus(); // what was focused is about to be replaced
      attempt(() => broker.schedule.move(uuid, to), `${name}: moved to ${when(Number(to))}.`);
    };
    part("cancel").onclick = () => {
      by("pending-title").focus();
      attempt(() => broker.schedule.cancel(uuid), `${name}: cancelled.`);
    };
  });
}

// Who is here.

let unwatch = () => {};
broker.user.subscribe((user) => {
  const here = user && !user.expired;
  unwatch();
  unwatch = here ? broker.schedule.subscribe(plan) : () => {}; // strangers may not see it
  [by("login").hidden, by("work").hidden, by("leave").hidden] = [!!here, !here, !here];
  if (user?.expired) by("login").elements.username.value = user.username;
  by("me").textContent = here ? user.username : "";
});

by("login").onsubmit = (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const { username, password } = by("login").elements;
  attempt(async () => {
    await broker.logIn(username.value, password.value);
    by("login").reset();
    by("title").focus();
  });
};
by("leave").onclick = () =>
  attempt(async () => {
    await broker.logOut();
    by("login").elements.username.focus();
  });

/** Does something, and shows why it fails. @param {() => unknown} action @param {string} [done]  said when it is done */
async function attempt(action, done = "") {
  by("error").textContent = by("done").textContent = "";
  try {
    await action();
    by("done").textContent = done;
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    by("error").textContent = `${message[0].toUpperCase()}${message.slice(1)}.`;
  }
}
