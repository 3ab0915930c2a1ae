// Times as people read them. All are in milliseconds since 1970; the server's are in seconds.

const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const short = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
const withYear = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
});

/** @type {[number, string][]} */
const UNITS = [[31_536_000, "year"], [2_592_000, "month"], [86_400, "day"], [3_600, "h"], [60, "min"], [1, "s"]];

/** The reader's zone, such as Europe/Paris. */
export const zone = new Intl.DateTimeFormat().resolvedOptions().timeZone;

/** In the reader's zone. @param {number} time */
export function timeText(time) {
  if (!isTime(time)) return "beyond all calendars";
  return (new Date(time).getFullYear() === new Date().getFullYear() ? short : withYear).format(time);
}

/** With the date and the zone, for titles. @param {number} time */
export function fullTime(time) {
  return isTime(time) ? full.format(time) : "beyond all calendars";
}

/** How long ago, or how long from now: "12 s ago", "in 3 min". @param {number} time @param {number} now */
export function ago(time, now) {
  const seconds = (now - time) / 1_000;
  const text = duration(Math.abs(seconds) * 1_000);
  if (text === "0 s") return "now";
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

/** The largest unit alone: "3 min". @param {number} milliseconds */
export function duration(milliseconds) {
  const seconds = milliseconds / 1_000;
  const [size, unit] = UNITS.find(([each]) => seconds >= each) ?? [1, "s"];
  const count = Math.floor(seconds / size);
  const isWord = !["h", "min", "s"].includes(unit);
  return `${count} ${unit}${isWord && count !== 1 ? "s" : ""}`;
}

/** The value of an `<input type=datetime-local step=1>`. @param {number} time */
export function localInput(time) {
  const date = new Date(time);
  return new Date(time - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** The time that somebody has put in there; NaN if it is none. @param {string} text */
export function fromLocalInput(text) {
  return text ? new Date(text).getTime() : NaN;
}

/** A time in an address: seconds, as everywhere in Broker's HTTP, or a text of RFC 3339. Null if it is neither.
 * @param {string | null} text */
export function timeOf(text) {
  const time = /^-?\d+(\.\d+)?$/.test(text ?? "") ? 1_000 * Number(text) : Date.parse(text ?? "");
  return isTime(time) ? time : null;
}

/** Whether JavaScript has a date for it. @param {number} time */
function isTime(time) {
  return Math.abs(time) <= 8.64e15;
}
