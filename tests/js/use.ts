// The right use of the types is accepted, and each wrong one is refused: tsc checks this file, and nothing runs it.

import { BrokerError, createBroker } from "../../src/broker/js/types.js";
import type { Event, EventRecord, Form, FormState, Pending, Sent, StandardSchema, Status, Store, User, Version } from "../../src/broker/js/types.js";

declare global {
  interface BrokerEvents {
    sale: { percent: number; note?: string; tags?: string[]; shop?: { name: string; open: boolean } };
    [order: `orders/${string}`]: { item: string; qty: number };
    [member: `room/${string}/member/${string}`]: true;
  }
}

/** Accepts a value of exactly this type. */
function exactly<Wanted>() {
  return <Given>(given: Given, same: [Given, Wanted] extends [Wanted, Given] ? true : false) => [given, same];
}

declare const schema: StandardSchema;
const broker = createBroker("http://localhost:8080", { storage: "session", validate: { "orders/*": schema }, log: console });
createBroker();
createBroker(new URL("http://localhost:8080"), { token: async () => null, storage: sessionStorage, fetch });

// The names of events: declared, declared by a template, given by the caller, and unknown.
const sale = broker.event("sale");
const orders = broker.events("orders/");
const shown: { percent: number; note?: string } | undefined = sale.get();
exactly<{ item: string; qty: number } | undefined>()(broker.event("orders/7").get(), true);
exactly<true | undefined>()(broker.event("room/blue/member/ada").get(), true);
exactly<unknown>()(broker.event("other").get(), true);
exactly<ReadonlyMap<string, unknown>>()(broker.events("other/").get(), true);
exactly<number | undefined>()(broker.event<number>("other").get(), true);
exactly<ReadonlyMap<string, { item: string; qty: number }>>()(orders.get(), true);
const name: string = "computed/" + shown?.percent;
exactly<Event<unknown>>()(broker.event(name), true);

// Reading.
const end: () => void = sale.subscribe((value) => value?.percent.toFixed());
const state: "loading" | "live" | "stale" | "denied" = sale.state.get().status;
for (const [key, order] of orders.get()) console.log(key.length, order.qty.toFixed());
orders.changes((keys, all) => keys.forEach((key) => all.get(key)?.item.length));
exactly<Store<[string, { item: string; qty: number }][]>>()(orders.list({ sort: (a, b) => a[1].qty - b[1].qty, limit: 3 }), true);
const older: Promise<boolean> = broker.events("orders/", { last: 50, deep: false }).more();
exactly<Promise<{ percent: number } | undefined>>()(broker.event<{ percent: number }>("x").ready, true);
const at: Promise<{ percent: number } | undefined> = sale.at(Date.now());
exactly<Promise<string | null>>()(broker.token(null), true);
async function history() {
  for await (const version of sale.log({ limit: 10 })) exactly<string>()(version.uuid, true), version.data?.percent.toFixed();
}

// Writing.
const sent: Sent<{ percent: number }> = sale.set({ percent: 20 }, { at: "2030-01-01T00:00:00Z", until: new Date(), ifLate: "refuse" });
sent.then((record: EventRecord) => record.uuid);
const cancelled: Promise<void> = sent.cancel();
sale.patch({ note: null });
sale.patch({ shop: { open: false } });
sale.patch({ shop: null, tags: ["a"] });
sale.update((value) => ({ percent: (value?.percent ?? 0) + 1 }));
sale.remove({ ifLatest: "none" });
const undone: Sent<unknown> | undefined = sale.undo() ?? sale.redo();
const key: string = orders.add({ item: "tea", qty: 1 }).key;
orders.patch(key, { qty: 2 });
broker.event("other").set({ any: ["thing"] });
const batch: Promise<EventRecord[]> = broker.batch(() => void orders.remove(key));
batch.catch((error) => error instanceof BrokerError && [error.status.toFixed(), error.type.length, error.latest?.uuid]);

// Forms.
const form: Form = broker.form("sale", document.body, { save: "submit", idle: 500, others: true });
const formState: FormState = form.state.get();
const theirs: unknown = formState.fields["shop.open"]?.conflict?.theirs;
form.save().then(({ saved, refused }) => saved || refused?.path?.toUpperCase());
form.keep("percent");
console.log(theirs, formState.others.join(), form.undo(), form.redo(), form.take("percent"), form.close());

// The rest.
const pending: readonly Pending[] = broker.schedule.get();
const moved: Promise<EventRecord> = broker.schedule.move(pending[0].uuid, broker.now() + 1_000);
const status: Status = broker.status.get();
const user: User | null = broker.user.get();
broker.logIn("ada", "correct horse", { adopt: true }).then(({ username }) => broker.logOut({ keep: username === "ada" }));
console.log(end, state, older, at, history, cancelled, undone, moved, status, user?.expired, {} as Version);

// @ts-expect-error a way of saving that there is not
broker.form("sale", document.body, { save: "input" });
// @ts-expect-error a field that there is not
sale.get()?.prcent;
// @ts-expect-error the value may not be there
sale.get().percent;
// @ts-expect-error a type that the field does not have
sale.set({ percent: "20" });
// @ts-expect-error a field that the event does not have
sale.set({ percent: 20, price: 1 });
// @ts-expect-error a field is missing
orders.add({ item: "tea" });
// @ts-expect-error a field is missing, because `set` takes the whole value
orders.set("7", { qty: 2 });
// @ts-expect-error a field of a patch that there is not
sale.patch({ prcent: 1 });
// @ts-expect-error a part of an array cannot be patched
sale.patch({ tags: { 0: "a" } });
// @ts-expect-error `update` returns the whole value
sale.update(() => ({ note: "x" }));
// @ts-expect-error nothing is known of this event
broker.event("other").get().length;
// @ts-expect-error the prefix is not one of a declared event
broker.events("order/").get().get("7").qty;
// @ts-expect-error no such option
sale.set({ percent: 1 }, { when: 1 });
// @ts-expect-error no such choice of what happens if it is late
sale.set({ percent: 1 }, { at: 1, ifLate: "wait" });
// @ts-expect-error no such storage
createBroker("/", { storage: "cookie" });
// @ts-expect-error a status that there is not
broker.status.get() === "closed";
// @ts-expect-error the live map of a collection is not for writing
orders.changes((_, all) => all.set("7", { item: "tea", qty: 1 }));
// @ts-expect-error a store of the client cannot be set
broker.status.set("live");
// @ts-expect-error a validator that is none
createBroker("/", { validate: { sale: (value: unknown) => value } });
