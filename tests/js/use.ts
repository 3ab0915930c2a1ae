// The right use of the types is accepted, and each wrong one is refused: tsc checks this file, and nothing runs it.

import { createBroker } from "../../src/broker/js/types.js";
import type { Store } from "../../src/broker/js/types.js";

declare global {
  interface BrokerEvents {
    sale: { percent: number; note?: string };
    [order: `orders/${string}`]: { item: string; qty: number };
  }
}

const broker = createBroker("http://localhost:8080", { storage: "session" });
const sale = broker.event("sale");
const shown: { percent: number; note?: string } | undefined = sale.get();
const end: () => void = sale.subscribe((value) => value?.percent.toFixed());
sale.set({ percent: 20 }, { at: "2030-01-01T00:00:00Z", until: new Date(), ifLate: "refuse" });
sale.patch({ note: null });
sale.update((value) => ({ percent: (value?.percent ?? 0) + 1 }));
const orders = broker.events("orders/");
for (const [key, order] of orders.get()) console.log(key.length, order.qty.toFixed());
const key: string = orders.add({ item: "tea", qty: 1 }).key;
orders.patch(key, { qty: 2 });
broker.event("orders/7").get()?.item.length;
const other: unknown = broker.event("other").get();
broker.event<number>("other").get()?.toFixed();
const store: Store<number> = { get: () => 1, subscribe: () => () => {} };
const list: [string, { item: string; qty: number }][] = orders.list({ sort: (a, b) => a[1].qty - b[1].qty, limit: 3 }).get();
broker.logOut({ discard: true }).then(end);
console.log(shown, other, store, list, broker.now().toFixed());

// @ts-expect-error a field that there is not
sale.get()?.prcent;
// @ts-expect-error the value may not be there
sale.get().percent;
// @ts-expect-error a type that the event does not have
sale.set({ percent: "20" });
// @ts-expect-error a field is missing
orders.add({ item: "tea" });
// @ts-expect-error a field of a patch that there is not
sale.patch({ prcent: 1 });
// @ts-expect-error nothing is known of this event
broker.event("other").get().length;
// @ts-expect-error no such option
sale.set({ percent: 1 }, { when: 1 });
// @ts-expect-error no such storage
createBroker("/", { storage: "cookie" });
// @ts-expect-error a status that there is not
broker.status.get() === "closed";
