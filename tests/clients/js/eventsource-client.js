import { createEventSource } from "eventsource-client";
import { deliver, savedId, url } from "./program.js";

const source = createEventSource({ url, initialLastEventId: savedId || undefined });
for await (const { event, data, id } of source) deliver(event, data, id);
