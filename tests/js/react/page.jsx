// The pages of tests/browser/test_react.py: `show(name)` renders one of them, in StrictMode.

import { Component, StrictMode, Suspense, useEffect } from "react";
import { createRoot } from "react-dom/client";
import * as broker from "zerocode-broker/react";
import { useBroker, useEvent, useEventForm, useEvents, useEventState, useReady, useSchedule, useStatus, useStore, useUser } from "zerocode-broker/react";
import * as copy from "copy/react";
import { createBroker } from "zerocode-broker";

const { BrokerProvider, SignedIn, SignedOut } = broker;
const byQuantity = ([, a], [, b]) => a.qty - b.qty;

// Every stream that the page asks for, and how many of them are open.
Object.assign(window, { streams: [], open: 0, fallbacks: 0, rendered: [], createBroker });
const fetch = window.fetch;
window.fetch = (url, options) => {
  if (String(url).endsWith("/events")) {
    window.streams.push(JSON.parse(options.body));
    window.open++;
    options.signal.addEventListener("abort", () => window.open--, { once: true });
  }
  return fetch(url, options);
};

function Shop() {
  const client = (window.broker = useBroker());
  const sale = useEvent("sale", { percent: 0 });
  const { status, by, pending } = useEventState("sale");
  const [orders, all] = useEvents("orders/", { sort: byQuantity, limit: 3 });
  const nothing = [useEvent(null), useEventState(null), ...useEvents(null)];
  window.rendered.push(sale.percent);
  return (
    <>
      <p id="sale">{`${sale.percent} % ${status} ${by} ${pending}`}</p>
      <p id="orders">{orders.map(([, { item, qty }]) => `${qty} ${item}`).join()}</p>
      <p id="size">{useStore(all).size}</p>
      <p id="status">{useStatus()}</p>
      <p id="unsent">{useStore(client.outbox).length}</p>
      <p id="nothing">{JSON.stringify(nothing)}</p>
      <button id="buy" onClick={() => all.add({ item: "tea", qty: 2 })}>buy</button>
      <button id="more" onClick={() => client.event("sale").update((data) => ({ percent: (data?.percent ?? 0) + 1 }))}>more</button>
    </>
  );
}

/** One that is replaced by the other, at another name. */
function Chosen({ name }) {
  return <p id="chosen">{useEvent(name, "nothing")}</p>;
}

function Login() {
  return (
    <>
      <SignedIn><p id="in">{useUser()?.username}</p></SignedIn>
      <SignedOut><p id="out">log in</p></SignedOut>
    </>
  );
}

function Later() {
  const { schedule } = (window.broker = useBroker());
  const due = useSchedule("sale");
  return (
    <>
      <p id="due">{due.map(({ event, data, at }) => `${event} ${data.percent} ${new Date(at).getUTCFullYear()}`).join()}</p>
      <p id="all">{useSchedule().length}</p>
      <button id="move" onClick={() => schedule.move(due[0].uuid, "2090-01-01T00:00:00Z")}>move</button>
      <button id="cancel" onClick={() => schedule.cancel(due[0].uuid)}>cancel</button>
    </>
  );
}

function Profile({ name = "profile", extra = false }) {
  window.broker = useBroker();
  const form = (window.form = useEventForm(name));
  return (
    <form ref={form.ref}>
      <input name="text" aria-label="text" defaultValue="" />
      <input name="check" aria-label="check" type="checkbox" />
      {extra && <input name="extra" aria-label="extra" defaultValue="of the page" />}
      <p id="theirs">{form.field("text").conflict?.theirs ?? "none"}</p>
      <p id="saved">{`${form.status} ${form.saved}`}</p>
      <button type="button" onClick={() => form.keep("text")}>Keep</button>
    </form>
  );
}

const never = new Promise(() => {});
function Never() {
  throw never;
}

function Fallback() {
  useEffect(() => void window.fallbacks++, []);
  return <p id="fallback">loading</p>;
}

function Ready({ name = "sale" }) {
  const client = (window.broker = useBroker());
  const sale = useReady(client.event(name));
  const orders = useReady(client.events("orders/"));
  return <p id="sale">{`${sale?.percent} % ${orders.size} ${useEventState(name).status}`}</p>;
}

class Boundary extends Component {
  state = { error: null };
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    return this.state.error ? <p id="error">{`${this.state.error.status} ${this.state.error.type}`}</p> : this.props.children;
  }
}

function OtherCopy() {
  return <p id="other">{`${copy.useEvent("sale")?.percent} ${copy.useBroker() === useBroker()}`}</p>;
}

let given;
const pages = {
  Nothing: () => null,
  Shop,
  Chosen,
  Login,
  Later,
  Profile,
  // React throws this render away, because a sibling never finishes.
  ThrownAway: () => <Suspense fallback={<Fallback />}><Shop /><Never /></Suspense>,
  Ready: (options) => <Boundary><Suspense fallback={<Fallback />}><Ready {...options} /></Suspense></Boundary>,
  Copies: () => <><Shop /><OtherCopy /></>,
  AddressedCopies: () => (
    <>
      <BrokerProvider url="/"><Shop /></BrokerProvider>
      <copy.BrokerProvider url="/"><OtherCopy /></copy.BrokerProvider>
    </>
  ),
  ProvidedCopies: () => (
    <BrokerProvider broker={(given ??= createBroker(location.origin, { storage: "memory" }))}>
      <Shop /><OtherCopy />
    </BrokerProvider>
  ),
};

const root = createRoot(document.getElementById("root"));
window.show = (name, options) => {
  const Page = pages[name];
  root.render(<StrictMode><Page {...options} /></StrictMode>);
};
