import { EventSource } from "launchdarkly-eventsource";
import { listen, urlWithId } from "./program.js";

// Not in `headers`: those that are given go over its own, with each reconnect.
listen(new EventSource(urlWithId));
