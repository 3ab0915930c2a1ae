// Who and when, in words that follow the clock.

import { h } from "./h.js";
import { ago, fullTime, timeText } from "./times.js";
import { timeOf } from "./version.js";

/** @import { Child, Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */

const SECOND_MS = 1_000;
const DAY_MS = 86_400_000;

/** Strangers see no names. @param {VersionRecord} version @param {number} now @returns {Child[]} */
export function byWhom(version, now) {
  return [version.user ? ["by ", h("bdi", null, version.user), ", "] : null, timeElement(timeOf(version), now)];
}

/** How long ago; the title has the whole time. @param {number} time @param {number} now */
export function timeElement(time, now) {
  const isFar = Math.abs(now - time) > DAY_MS;
  return h("time", { title: fullTime(time) }, isFar ? timeText(time) : ago(time, now).replace(/^now$/, "just now"));
}

/** Until the screen is left. @param {Context} ctx @param {() => void} run */
export function everySecond(ctx, run) {
  const timer = setInterval(run, SECOND_MS);
  ctx.signal.addEventListener("abort", () => clearInterval(timer));
}
