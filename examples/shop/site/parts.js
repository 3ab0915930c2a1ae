// What the two pages share.
// @ts-check

import { createBroker } from "/broker.js";

/** @typedef {BrokerEvents["offers/"]} Offer */

export const broker = createBroker();
export const products = broker.events("products/");
export const prices = broker.events("prices/");
export const offers = broker.events("offers/");

const euros = new Intl.NumberFormat(undefined, { style: "currency", currency: "EUR" });
const times = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** @param {number} cents */
export const money = (cents) => euros.format(cents / 100);
/** @param {number} time */
export const when = (time) => times.format(time);

/** @param {string} id @returns {any} */
export const by = (id) => document.getElementById(id);

/** The time that is left, such as 1 d 02:03:04, by the server's clock. @param {number} time */
export function left(time) {
  const seconds = Math.max(0, Math.ceil((time - broker.now()) / 1_000));
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24, Math.floor(seconds / 60) % 60];
  const clock = [hours, minutes, seconds % 60].map((each) => String(each).padStart(2, "0")).join(":");
  return days ? `${days} d ${clock}` : clock;
}

/** Calls `run` with the products in their order, at once and whenever anything of them has changed.
 * @param {(rows: {key: string, name: string, cents: number | undefined, offer: Offer | undefined}[]) => void} run */
export function watch(run) {
  const list = products.list({ sort: (a, b) => a[1].name.localeCompare(b[1].name) });
  const show = () =>
    run(list.get().map(([key, { name }]) => ({ key, name, cents: prices.get().get(key)?.cents, offer: offers.get().get(key) })));
  for (const each of [list, prices, offers]) each.subscribe(show);
}

/** Shows one element for each row. What is there already stays, and so do its focus and what is typed in it.
 * @template {{key: string}} Row
 * @param {HTMLElement} parent @param {string} template  its id
 * @param {readonly Row[]} rows @param {(part: (name: string) => any, row: Row, element: any) => void} fill */
export function show(parent, template, rows, fill) {
  const old = new Map(Array.from(parent.children, (each) => [/** @type {HTMLElement} */ (each).dataset.key, each]));
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  rows.forEach((row, index) => {
    const element = /** @type {HTMLElement} */ (old.get(row.key) ?? by(template).content.firstElementChild.cloneNode(true));
    old.delete(row.key);
    element.dataset.key = row.key;
    fill((name) => element.querySelector(`[data-part="${name}"]`), row, element);
    const there = parent.children[index] ?? null;
    if (there !== element) parent.insertBefore(element, there);
  });
  for (const each of old.values()) each.remove();
  if (focused !== document.activeElement && focused?.isConnected) focused.focus();
}

const WORDS = { idle: "", connecting: "Connecting …", live: "Live", reconnecting: "Reconnecting …", offline: "Offline", denied: "Closed" };
broker.status.subscribe((status) => {
  by("status").textContent = WORDS[status];
  by("status").dataset.status = status;
});
