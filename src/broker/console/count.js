// The count of a stream: how many records came, and the proof that none is missing. On a stream without a filter, the
// number at the end of the ids grows by one with each record, once the stream is ready (docs/http.md, "Ids").

import { split } from "../js/frames.js";

export class StreamCount {
  // Of everything since the stream was opened anew.
  /** Records that came. */
  received = 0;
  /** Positions that should have come, and did not. */
  missing = 0;
  /** Records that came twice. */
  repeated = 0;
  /** Positions of Broker's own records, which no stream shows. */
  passed = 0;
  /** Positions that the server has left out, and has said so. */
  skipped = 0;
  /** How often the state was sent anew. */
  resets = 0;
  /** Whether the rules hide a part of the stream. */
  hidden = false;
  /** Whether it has begun with the state. */
  fromState = false;
  /** The last id. */
  id = "";

  #filtered;
  /** The number behind which the next record must be the very next one; undefined as long as a state is sent.
   * @type {number | undefined} */
  #last;

  /** @param {boolean} filtered  whether the stream has a filter */
  constructor(filtered) {
    this.#filtered = filtered;
  }

  /** Whether ids can be counted: a stream that shows only a part leaves numbers out. */
  get proves() {
    return !this.#filtered && !this.hidden;
  }

  /** A stream is opened. @param {string} from  the id behind which it goes on; empty: it begins with the state */
  opened(from) {
    this.#last = from ? split(from)[1] : undefined;
    if (from) this.id = from;
    else this.fromState = true;
  }

  /** @param {{id?: string, event?: string, data?: string}} frame */
  take({ id, event, data }) {
    const number = id === undefined ? undefined : split(id)[1];
    if (id !== undefined) this.id = id;
    if (event === "$reset") {
      this.resets++;
      this.#last = undefined;
    } else if (event === "$skipped") {
      this.skipped += positionsOf(data);
      this.#last = undefined;
    } else if (event === "$ready") {
      this.hidden = data !== undefined && JSON.parse(data).partial === true;
      this.#reach(number, 0);
      this.#last = number;
    } else if (event === "$passed") {
      this.passed += positionsOf(data);
      this.#reach(number, positionsOf(data));
    } else if (!event?.startsWith("$") && data !== undefined) {
      this.received++;
      this.#reach(number, 1);
    }
  }

  /** The stream has reached a position. @param {number | undefined} number @param {number} steps  how many it should be */
  #reach(number, steps) {
    if (number === undefined || this.#last === undefined) return;
    const beyond = number - this.#last - steps;
    if (this.proves && beyond > 0) this.missing += beyond;
    if (steps && number <= this.#last) this.repeated++;
    else this.#last = number;
  }
}

/** @param {string | undefined} data */
const positionsOf = (data) => Number(JSON.parse(data ?? "{}").positions) || 0;
