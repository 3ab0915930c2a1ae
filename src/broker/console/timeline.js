// The time line of the schedule: marks from now on, on a logarithmic scale, so that both the next twenty seconds and the
// next three months can be seen. It is a picture of the list below it, and the list has everything that it shows.

import { replace, svg } from "./h.js";

/** What the time line shows of an entry. Times are in milliseconds.
 * @typedef {object} TimelineMark
 * @property {string} key
 * @property {string} label
 * @property {"insert" | "remove" | "end"} kind
 * @property {number} at  when it happens
 * @property {number} [until]  until when the version holds that begins then
 */

const TIMELINE_SECOND = 1_000;
const TIMELINE_MINUTE = 60 * TIMELINE_SECOND;
const TIMELINE_HOUR = 60 * TIMELINE_MINUTE;
const TIMELINE_DAY = 24 * TIMELINE_HOUR;
/** @type {readonly (readonly [number, string])[]} */
const TIMELINE_TICKS = [
  [10 * TIMELINE_SECOND, "10 s"], [TIMELINE_MINUTE, "1 min"], [10 * TIMELINE_MINUTE, "10 min"], [TIMELINE_HOUR, "1 h"],
  [6 * TIMELINE_HOUR, "6 h"], [TIMELINE_DAY, "1 day"], [7 * TIMELINE_DAY, "1 week"], [30 * TIMELINE_DAY, "1 month"],
  [90 * TIMELINE_DAY, "3 months"], [365 * TIMELINE_DAY, "1 year"], [3_650 * TIMELINE_DAY, "10 years"],
  [36_500 * TIMELINE_DAY, "100 years"],
];
const TIMELINE_LINEAR = 10 * TIMELINE_SECOND; // about as far as this, the scale is even
const TIMELINE_LEFT = 12;
const TIMELINE_RIGHT = 36;
const TIMELINE_LANE = 24; // the height of a lane
const TIMELINE_LANES = 6;
const TIMELINE_MARKS = 120; // more than these cannot be told apart
const TIMELINE_LETTER = 7; // about the width of a letter
const TIMELINE_LABEL = 24; // letters

/** How far the time line reaches: to the first tick behind everything, and at least an hour. @param {number} furthest */
export function timelineSpan(furthest) {
  const tick = TIMELINE_TICKS.find(([time]) => time >= Math.max(furthest, TIMELINE_HOUR));
  return tick ? tick[0] : furthest;
}

/** The place of a time. @param {number} ahead  milliseconds from now @param {number} span @param {number} width */
export function timelineX(ahead, span, width) {
  const part = Math.log1p(Math.max(ahead, 0) / TIMELINE_LINEAR) / Math.log1p(span / TIMELINE_LINEAR);
  return TIMELINE_LEFT + Math.min(part, 1) * (width - TIMELINE_LEFT - TIMELINE_RIGHT);
}

/** Gives each mark a place and a lane, so that labels do not cover each other as long as there are lanes.
 * @param {readonly TimelineMark[]} marks  by time @param {number} now @param {number} span @param {number} width */
export function timelinePlaces(marks, now, span, width) {
  /** Where each lane is free again. @type {number[]} */
  const free = [];
  return marks.slice(0, TIMELINE_MARKS).map((mark) => {
    const x = timelineX(mark.at - now, span, width);
    const end = mark.until === undefined ? x : timelineX(mark.until - now, span, width);
    const start = mark.kind === "end" ? TIMELINE_LEFT : x;
    const letters = Math.min(mark.label.length, TIMELINE_LABEL) * TIMELINE_LETTER;
    // The label is behind the mark, or before it where there is no more room.
    const before = Math.max(x, end) + 10 + letters > width;
    const from = before ? Math.min(start, x - 14 - letters) : start;
    const found = free.findIndex((each) => each <= from);
    const lane = found >= 0 ? found : Math.min(free.length, TIMELINE_LANES - 1);
    const labelled = found >= 0 || free.length < TIMELINE_LANES;
    free[lane] = Math.max(free[lane] ?? 0, before ? x + 14 : Math.max(x, end) + 14 + letters);
    return { mark, x, end, start, lane, before, labelled };
  });
}

/** @param {string} label */
const timelineLabel = (label) => (label.length > TIMELINE_LABEL ? `${label.slice(0, TIMELINE_LABEL - 1)}…` : label);

/** @param {(key: string) => void} pick  a mark was clicked */
export function timeline(pick) {
  const picture = svg("svg", { class: "schedule-timeline", role: "img" });
  /** @type {readonly TimelineMark[]} */
  let marks = [];
  let now = 0;
  let drawn = "";

  function draw() {
    const width = Math.max(picture.clientWidth, 240);
    const furthest = marks.reduce((most, each) => Math.max(most, each.at - now, (each.until ?? 0) - now), 0);
    const span = timelineSpan(furthest);
    const places = timelinePlaces(marks, now, span, width);
    // Most marks hardly move in a second. What stays as it is can be clicked, and keeps its tooltip.
    const next = JSON.stringify([width, span, places.map(({ mark, x, end }) => [mark.key, Math.round(2 * x), Math.round(2 * end)])]);
    if (next === drawn) return;
    drawn = next;
    const lanes = places.reduce((most, each) => Math.max(most, each.lane + 1), 1);
    const base = lanes * TIMELINE_LANE + 8;
    picture.setAttribute("height", String(base + 28));
    picture.setAttribute("aria-label", timelineSummary(marks));
    replace(picture, ...timelineAxis(span, width, base), ...places.map((each) => timelineMark(each, pick)));
  }

  return {
    element: picture,
    draw,
    /** @param {readonly TimelineMark[]} next  by time @param {number} time  the server's */
    show(next, time) {
      marks = next;
      now = time;
      draw();
    },
  };
}

/** @param {readonly TimelineMark[]} marks */
function timelineSummary(marks) {
  const first = marks[0];
  if (!first) return "Time line: nothing is scheduled.";
  return `Time line with ${marks.length === 1 ? "one mark" : `${marks.length} marks`}; the list below has all of them.`;
}

/** @param {number} span @param {number} width @param {number} base */
function timelineAxis(span, width, base) {
  const parts = [svg("line", { class: "schedule-axis", x1: TIMELINE_LEFT, x2: width - 4, y1: base, y2: base })];
  let last = TIMELINE_LEFT + 16;
  for (const [time, name] of TIMELINE_TICKS) {
    const x = timelineX(time, span, width);
    if (time > span) break;
    parts.push(svg("line", { class: "schedule-tick", x1: x, x2: x, y1: 4, y2: base + 4 }));
    // On a phone, not every tick has room for its name.
    if (x - last < 12 + 4 * name.length) continue;
    parts.push(svg("text", { class: "schedule-tick-name", x, y: base + 20, "text-anchor": "middle" }, name));
    last = x + 3.5 * name.length;
  }
  parts.push(svg("line", { class: "schedule-now", x1: TIMELINE_LEFT, x2: TIMELINE_LEFT, y1: 4, y2: base + 4 }));
  parts.push(svg("text", { class: "schedule-now-name", x: 2, y: base + 20 }, "now"));
  return parts;
}

/** @param {ReturnType<typeof timelinePlaces>[number]} place @param {(key: string) => void} pick */
function timelineMark({ mark, x, end, start, lane, before, labelled }, pick) {
  const y = lane * TIMELINE_LANE + TIMELINE_LANE / 2 + 4;
  const group = svg("g", { class: `schedule-mark schedule-mark-${mark.kind}`, onclick: () => pick(mark.key) });
  if (end > x || start < x)
    group.append(svg("line", { class: "schedule-bar", x1: Math.min(start, x), x2: Math.max(end, x), y1: y, y2: y }));
  group.append(
    mark.kind === "end"
      ? svg("path", { class: "schedule-shape", d: `M${x - 5} ${y}l5 -5l5 5l-5 5z` })
      : svg("circle", { class: "schedule-shape", cx: x, cy: y, r: 5 }),
  );
  if (labelled) {
    const at = before ? { x: x - 10, "text-anchor": "end" } : { x: Math.max(end, x) + 10 };
    group.append(svg("text", { class: "schedule-label", y: y + 4, ...at }, timelineLabel(mark.label)));
  }
  group.append(svg("title", null, mark.label));
  return group;
}
