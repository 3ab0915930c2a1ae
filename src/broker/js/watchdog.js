// The watchdog: it notices a stream that has gone silent.

const GRACE_MS = 5_000; // a stream is dead when two heartbeats are missing, and this has passed

export class Watchdog {
  heartbeat = 15; // seconds
  #received = [0, 0]; // when something came, by both clocks
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  heard() {
    this.#received = [Date.now(), performance.now()];
  }

  /** For how many milliseconds nothing came. One of the clocks may be set back, and the other one stands still on some
   * devices that sleep; so the larger of the two counts, and at worst a stream is opened again without need. */
  get silence() {
    return Math.max(Date.now() - this.#received[0], performance.now() - this.#received[1]);
  }

  /** Whether a heartbeat is missing. */
  get suspects() {
    return this.silence > 1_000 * this.heartbeat;
  }

  /** Calls `run` once nothing has come for too long: a laptop slept, or a network has changed, and nothing reports an
   * error. The clock is asked again when the timer fires, because timers of a hidden page fire late.
   * @param {() => void} run */
  watch(run) {
    const left = 2_000 * this.heartbeat + GRACE_MS - this.silence;
    if (left > 0) this.#timer = setTimeout(() => this.watch(run), left);
    else run();
  }

  stop() {
    clearTimeout(this.#timer);
  }
}
