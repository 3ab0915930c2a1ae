import EventSource from "eventsource-2";
import { listen, savedId, url } from "./program.js";

listen(new EventSource(url, { headers: savedId ? { "Last-Event-ID": savedId } : {} }));
