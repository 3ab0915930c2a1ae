// The test event: one that the inspector sends itself, to see it come back on the stream.

import { h } from "./h.js";

/** @import { Context } from "./types.js" */
/** @import { StreamFrame } from "./stream.js" */

const PROBE_EVENT = "test/console";
const PROBE_WAIT_MS = 5_000; // after which the inspector says that it has not come

/** @param {Context} ctx */
export function probe(ctx) {
  /** @type {{event: string, data: string, since: number} | undefined} */
  let awaited;
  let count = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const name = h("input", { class: "mono", "aria-label": "Name of the test event", value: PROBE_EVENT, required: true, maxLength: 255, spellcheck: false, autocapitalize: "none" });
  // It has its place before there is something to say, so that nothing jumps.
  const outcome = h("p", { class: "inspector-outcome muted", role: "status" }, "A test event is stored, and comes back on the stream.");
  const say = (/** @type {string} */ text) => (outcome.textContent = text);

  async function send() {
    clearTimeout(timer);
    const event = name.value;
    const data = JSON.stringify({ test: ++count, sent: new Date(ctx.broker.now()).toISOString() });
    awaited = { event, data, since: performance.now() };
    say("Sent …");
    try {
      await ctx.api.post("insert", `{"event":${JSON.stringify(event)},"data":${data}}`);
    } catch (error) {
      awaited = undefined;
      if (!ctx.signal.aborted) say(`It was refused: ${error instanceof Error ? error.message : error}`);
      return;
    }
    if (awaited?.data !== data) return; // it was faster than the response
    say("It is stored, and has not come on the stream yet …");
    timer = setTimeout(() => say("It is stored, but has not come on this stream. Does a filter leave it out, or may you not read it?"), PROBE_WAIT_MS);
  }
  ctx.signal.addEventListener("abort", () => clearTimeout(timer));

  return {
    send,
    outcome,
    element: h("form", {
      class: "inspector-probe",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        send();
      },
    }, name, h("button", { "aria-keyshortcuts": "t", title: "Send a test event (t)" }, "Send a test event")),
    /** If this frame is the one that is awaited: how long it took, in words. @param {StreamFrame} frame */
    took({ event, data }) {
      if (!awaited || !data) return "";
      // A record frame ends with the data. The data has a time, so no other frame is the same.
      const isIt = event === undefined ? data.endsWith(`"data":${awaited.data}}`) : event === awaited.event && data === awaited.data;
      if (!isIt) return "";
      const took = `${(performance.now() - awaited.since).toFixed(1)} ms`;
      awaited = undefined;
      clearTimeout(timer);
      say(`It came back in ${took}.`);
      return took;
    },
  };
}
