import { EventSource } from "eventsource";
import { listen, urlWithId } from "./program.js";

listen(new EventSource(urlWithId));
