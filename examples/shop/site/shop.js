// The page for customers.
// @ts-check

import { by, left, money, products, show, watch } from "./parts.js";

/** @type {Map<string, string>} */
let known = new Map();
let begun = false;
/** @type {() => void} */
let tick = () => {};

watch((rows) => {
  tick = () =>
    show(by("products"), "product", rows, (part, { name, cents, offer }) => {
      part("name").textContent = name;
      const now = offer?.cents ?? cents;
      part("price").textContent = now === undefined ? "" : money(now);
      part("before").hidden = part("end").hidden = !offer;
      part("regular").textContent = offer && cents !== undefined ? money(cents) : "";
      part("left").textContent = offer ? left(offer.ends) : "";
    });
  tick();
  by("empty").hidden = rows.length > 0 || products.state.get().status !== "live";

  // A screen reader is told what has changed, and not what ticks.
  const texts = new Map(rows.map(({ key, name, cents, offer }) => {
    const now = offer?.cents ?? cents;
    return [key, now === undefined ? "" : `${name}: ${money(now)}${offer ? ", for a short time" : ""}`];
  }));
  if (begun) by("news").textContent = [...texts].filter(([key, text]) => text && known.get(key) !== text).map(([, text]) => text).join(". ");
  known = texts;
});
products.ready.then(() => (begun = true), () => {});
products.state.subscribe(({ status }) => (by("empty").hidden = status !== "live" || products.get().size > 0));
setInterval(() => tick(), 1_000);
