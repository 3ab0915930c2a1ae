// A page that is rendered on a server, and goes on in the browser: server.jsx and hydrate.jsx.

import { StrictMode, Suspense } from "react";
import { BrokerProvider, SignedIn, SignedOut, useBroker, useEvent, useEventForm, useEvents, useEventState, useReady, useStatus, useUser } from "zerocode-broker/react";

function Inbox({ name }) {
  const [rows] = useEvents(`inbox/${name}/`);
  return <ul id="inbox">{rows.map(([key, text]) => <li key={key}>{text}</li>)}</ul>;
}

function Ready({ name }) {
  return <p id={`ready-${name}`}>{JSON.stringify(useReady(useBroker().event(name)) ?? null)}</p>;
}

/** Rendered on the server later than the rest, when the other requests are under way. */
function Slow({ gate }) {
  if (gate && !gate.open) throw gate.promise;
  return <p id="slow">{useEvent("sale", { percent: 0 }).percent}</p>;
}

function Sale() {
  const { ref, saved } = useEventForm("sale");
  return (
    <form ref={ref}>
      <input name="percent" type="number" aria-label="percent" defaultValue={useEvent("sale")?.percent} />
      <output id="saved">{String(saved)}</output>
    </form>
  );
}

function Page({ name }) {
  return (
    <main>
      <p id="user">{useUser()?.username ?? "nobody"}</p>
      <p id="sale">{`${useEvent("sale", { percent: 0 }).percent} ${useEventState("sale").status}`}</p>
      <p id="late">{`${useEvent("late", "nothing")} ${useEventState("late").status}`}</p>
      <p id="status">{useStatus()}</p>
      <SignedIn><p id="in">in</p></SignedIn>
      <SignedOut><p id="out">out</p></SignedOut>
      <Inbox name={name} />
      <Ready name="sale" />
      <Sale />
    </main>
  );
}

/** The boundaries are not in a component that watches something: React 18 would render them anew in the page if it changed
 * before they are hydrated, and say so. */
export function App({ state, broker, gate }) {
  return (
    <StrictMode>
      <BrokerProvider state={state} broker={broker}>
        <Page name={state?.user?.username ?? "nobody"} />
        <Suspense fallback={<p id="fallback">loading</p>}><Ready name="late" /></Suspense>
        <Suspense fallback={<p>slow</p>}><Slow gate={gate} /></Suspense>
      </BrokerProvider>
    </StrictMode>
  );
}
