import { EventSource } from "undici";
import { listen, urlWithId } from "./program.js";

listen(new EventSource(urlWithId));

// It does not keep a program alive that has nothing else to do while it waits to connect again.
setInterval(() => {}, 60_000);
