import polyfill from "event-source-polyfill";
import { listen, savedId, url } from "./program.js";

// The header goes with the first request; from then on the library puts its last id into the address. It would send
// the header again with each request, and the header wins: so a saved id goes into the address from the start.
listen(new polyfill.EventSourcePolyfill(savedId ? `${url}${url.includes("?") ? "&" : "?"}lastEventId=${savedId}` : url));
