// It is written for a page, and looks for a page's `window` and `document`.
globalThis.window = /** @type {any} */ (globalThis);
globalThis.document = /** @type {any} */ (Object.assign(new EventTarget(), { hidden: false }));

import { fetchEventSource } from "@microsoft/fetch-event-source";
import { complain, deliver, savedId, url } from "./program.js";

await fetchEventSource(url, {
  headers: savedId ? { "Last-Event-ID": savedId } : {},
  openWhenHidden: true,
  onmessage: ({ event, data, id }) => deliver(event, data, id),
  onerror: complain,
});
