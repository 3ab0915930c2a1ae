import { EventSource } from "undici";
import { listen, urlWithId } from "./program.js";

listen(new EventSource(urlWithId));
