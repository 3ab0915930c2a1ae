// The right use of the hooks is accepted, and each wrong one is refused: tsc checks this file, and nothing runs it.

import { Suspense } from "react";
import { createBroker } from "../../../src/broker/js/types.js";
import { preload } from "../../../src/broker/js/preload.js";
import {
  BrokerProvider, SignedIn, SignedOut, useBroker, useEvent, useEventForm, useEvents, useEventState, useReady, useSchedule, useStatus,
  useStore, useUser,
} from "../../../src/broker/js/react.js";

declare global {
  interface BrokerEvents {
    sale: { percent: number; note?: string };
    [order: `orders/${string}`]: { item: string; qty: number };
  }
}

export function Page({ chosen }: { chosen: string | null }) {
  const broker = useBroker();
  const percent: number | undefined = useEvent("sale")?.percent;
  const certain: number = useEvent("sale", { percent: 0 }).percent;
  const counted: number = useEvent<number>("counter", 0) + (useEvent<number>(chosen) ?? 0);
  const by: string | null | undefined = useEventState("sale").by;
  const pending: number | undefined = useEventState(chosen)?.pending;
  const form = useEventForm(chosen, { save: "submit" });
  const problem: string | undefined = form.refused?.message ?? form.field("percent").error;
  const [rows, orders] = useEvents("orders/", { sort: ([, a], [, b]) => a.qty - b.qty, limit: 3, deep: false });
  const [tasks, board] = useEvents<{ title: string }>("tasks/");
  const [none, nobody] = useEvents<{ title: string }>(chosen);
  const due: number | undefined = useSchedule("sale")[0]?.at;
  const unsent: number = useStore(broker.outbox).length;
  const ready: number | undefined = useReady(broker.event("sale"))?.percent;
  const all: number = useReady(orders).size;
  const add = () => orders.add({ item: "tea", qty: 1 }).key;
  return (
    <Suspense fallback={percent}>
      <SignedIn>{useUser()?.username}</SignedIn>
      <SignedOut>{useStatus() === "live" && "live"}</SignedOut>
      {rows.map(([key, { item }]) => <li key={key} onClick={() => orders.remove(key)}>{item}</li>)}
      {tasks.map(([key, task]) => <li key={key} onClick={() => board.patch(key, { title: "x" })}>{task.title}</li>)}
      {none.map(([key]) => <li key={key} onClick={() => nobody?.remove(key)} />)}
      <form ref={form.ref} onReset={form.undo}><output>{problem}</output></form>
      <button onClick={add}>{[certain, counted, by, pending, due, unsent, ready, all].join()}</button>
    </Suspense>
  );
}

export async function render() {
  const state = await preload("http://localhost:8080", ["sale", "orders/*"], { token: "x" });
  const broker = createBroker("http://localhost:8080", { state });
  const other = <BrokerProvider url="/live" state={state}><Page chosen={null} /></BrokerProvider>;
  return <BrokerProvider broker={broker} state={state}>{other}</BrokerProvider>;
}

export function Wrong({ chosen }: { chosen: string | null }) {
  // @ts-expect-error a field that there is not
  useEvent("sale")?.prcent;
  // @ts-expect-error the value may not be there
  useEvent("sale").percent;
  // @ts-expect-error a fallback of another type than the event
  useEvent("sale", { percent: "none" }).percent;
  // @ts-expect-error nothing is known of this event
  useEvent("other").length;
  // @ts-expect-error the state of nothing
  useEventState(chosen).pending;
  // @ts-expect-error a field that the events of this prefix do not have
  useEvents("orders/", { sort: ([, a], [, b]) => a.price - b.price });
  // @ts-expect-error the data of an event, without its key
  useEvents("orders/")[0][0].item;
  // @ts-expect-error a field is missing
  useEvents("orders/")[1].add({ item: "tea" });
  // @ts-expect-error there is no collection of nothing
  useEvents<number>(chosen)[1].remove("1");
  // @ts-expect-error nobody may be logged in
  useUser().username;
  // @ts-expect-error a status that there is not
  useStatus() === "closed";
  // @ts-expect-error a name is no store
  useStore("sale");
  // @ts-expect-error a store that is not loaded has nothing to wait for
  useReady(useBroker().status);
  // @ts-expect-error an address is no client
  return <BrokerProvider broker="http://localhost:8080" />;
}
