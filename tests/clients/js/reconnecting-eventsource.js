// It wraps the EventSource of the browser; here, that of undici, which is Node's own.
import library from "reconnecting-eventsource";
import { EventSource } from "undici";
import { listen, savedId, url } from "./program.js";

// Its types are those of CommonJS; its module is not.
const ReconnectingEventSource = library.default ?? library;
const eventSourceClass = /** @type {any} */ (EventSource);
listen(new ReconnectingEventSource(url, { eventSourceClass, lastEventId: savedId || undefined }));

// It does not keep a program alive that has nothing else to do while it waits to connect again.
setInterval(() => {}, 60_000);
