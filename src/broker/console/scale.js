// The scale of the slider: logarithmic around now, with seconds beside now and a year at both ends.

export const SCALE_STEPS = 1_000; // from now to an end
const SCALE_NEAR_MS = 60_000; // where the scale is still nearly linear
const SCALE_FAR_MS = 365 * 86_400_000;
const SCALE_RATE = Math.log(1 + SCALE_FAR_MS / SCALE_NEAR_MS);
const SCALE_NOW = 4; // steps around now that mean now, so that it can be hit with a finger

/** How far from now a position is, in milliseconds; 0 means now. @param {number} position  -SCALE_STEPS to SCALE_STEPS */
export function offsetAt(position) {
  if (Math.abs(position) <= SCALE_NOW) return 0;
  const offset = SCALE_NEAR_MS * (Math.exp((Math.abs(position) / SCALE_STEPS) * SCALE_RATE) - 1);
  return Math.sign(position) * offset;
}

/** Where on the scale a time is that is so many milliseconds from now. @param {number} offset */
export function positionOf(offset) {
  const distance = Math.min(Math.abs(offset), SCALE_FAR_MS);
  return Math.sign(offset) * SCALE_STEPS * (Math.log(1 + distance / SCALE_NEAR_MS) / SCALE_RATE);
}

/** A time as the slider sets it: without parts of a second that nobody has chosen, and never on the other side of now.
 * @param {number} position @param {number} now @returns {number | null}  null: now */
export function timeAt(position, now) {
  const offset = offsetAt(position);
  if (offset === 0) return null;
  const time = now + offset;
  return offset < 0 ? Math.floor(time / 1_000) * 1_000 : Math.ceil(time / 1_000) * 1_000;
}

/** The lines of the scale. @type {readonly (readonly [number, string])[]} */
export const SCALE_LINES = [
  [600_000, "10 min"],
  [3_600_000, "1 h"],
  [86_400_000, "1 day"],
  [7 * 86_400_000, "1 week"],
  [30 * 86_400_000, "1 month"],
  [SCALE_FAR_MS, "1 year"],
];
