import { EventSource } from "launchdarkly-eventsource";
import { listen, savedId, url } from "./program.js";

listen(new EventSource(url, { headers: savedId ? { "Last-Event-ID": savedId } : {} }));
