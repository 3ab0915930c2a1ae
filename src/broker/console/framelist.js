// The list of frames: the newest at the end, and followed as long as nobody looks at an older one. It keeps a limited
// number of frames, and shows as many.

import { copyButton } from "./copy.js";
import { h } from "./h.js";
import { wireBrief, wireFormatted, wireMatches, wireMeaning, wireName, wireSize, wireText } from "./wire.js";

/** @import { WireEntry } from "./wire.js" */

const FRAMES_MAX = 2_000; // that are kept, and shown
const FRAMES_BYTES_MAX = 16 << 20; // that they take: a single frame may have a mebibyte
const FRAMES_EVERY_MS = 100; // between two changes of the list, so that it can still be read and scrolled
const FRAMES_END = 24; // pixels: who is so near to the end is at the end

const frameClock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});

export class FrameList {
  element = h("div", { class: "inspector-frames" });
  /** Why it does not follow: `button`, or `look` if somebody looks at an older frame. @type {"" | "button" | "look"} */
  paused = "";
  /** How many came while it was paused. */
  unseen = 0;

  #list = h("ol", { "aria-label": "Frames" });
  #changed;
  /** @type {WireEntry[]} */
  #kept = [];
  #bytes = 0;
  #number = 0;
  /** What is not shown yet. @type {WireEntry[]} */
  #fresh = [];
  /** @type {Map<number, HTMLLIElement>} */
  #rows = new Map();
  #text = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {() => void} changed  it was paused, or follows again, or has more that is not seen */
  constructor(changed) {
    this.#changed = changed;
    const hint = h("p", { class: "inspector-hint muted" }, "No record to show yet. Send a test event, or insert something anywhere, and it appears here.");
    this.element.append(this.#list, hint);
    this.element.addEventListener("scroll", () => this.#scrolled());
    // The next frames would be faster than the scroll event, and scroll back.
    this.element.addEventListener("wheel", (event) => event.deltaY < 0 && this.element.scrollTop > 0 && this.pause("look"), { passive: true });
    this.#list.addEventListener("keydown", (event) => this.#press(event));
    this.#list.addEventListener("focusin", () => this.pause("look"));
  }

  get length() {
    return this.#kept.length;
  }

  /** @param {Omit<WireEntry, "number">} entry @returns {WireEntry} */
  add(entry) {
    const added = { ...entry, number: ++this.#number };
    this.#kept.push(added);
    this.#bytes += wireSize(added);
    while (this.#kept.length > FRAMES_MAX || (this.#bytes > FRAMES_BYTES_MAX && this.#kept.length > 1))
      this.#bytes -= wireSize(/** @type {WireEntry} */ (this.#kept.shift()));
    if (this.paused) this.unseen++;
    else this.#fresh.push(added);
    // If the page is in the background, this timer fires seldom.
    if (this.#fresh.length > FRAMES_MAX) this.#fresh.shift();
    this.#timer ??= setTimeout(() => this.#flush(), FRAMES_EVERY_MS);
    return added;
  }

  /** Marks an entry as the answer to something. @param {WireEntry} entry @param {string} mark */
  mark(entry, mark) {
    entry.mark = mark;
    this.#rows.get(entry.number)?.replaceWith(this.#row(entry));
  }

  /** @param {"button" | "look"} why */
  pause(why) {
    if (this.paused) return;
    this.paused = why;
    this.#flush(); // what came before is still shown
  }

  resume() {
    this.paused = "";
    this.unseen = 0;
    this.#rebuild();
    this.#changed();
  }

  /** Shows only what has this text. @param {string} text */
  filter(text) {
    this.#text = text.toLowerCase();
    this.#rebuild();
  }

  clear() {
    this.#kept = [];
    this.#bytes = 0;
    this.resume();
  }

  /** What is shown, as text. */
  get text() {
    return this.#kept.filter((each) => this.#rows.has(each.number)).map(wireText).join("");
  }

  stop() {
    clearTimeout(this.#timer);
  }

  #rebuild() {
    this.#fresh = [...this.#kept];
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#flush();
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const first = this.#kept[0]?.number ?? Infinity;
    this.#list.append(...this.#fresh.filter((each) => each.number >= first && wireMatches(each, this.#text)).map((each) => this.#row(each)));
    this.#fresh = [];
    if (this.paused) return this.#changed();
    for (const [number, row] of this.#rows) {
      if (number >= first) break;
      row.remove();
      this.#rows.delete(number);
    }
    this.#reachable();
    this.element.scrollTop = this.element.scrollHeight;
    this.#changed();
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.element;
    const isAtEnd = scrollTop + clientHeight >= scrollHeight - FRAMES_END;
    if (!isAtEnd) this.pause("look");
    else if (this.paused === "look" && !this.#list.contains(document.activeElement)) this.resume();
  }

  /** One row can be reached by the Tab key, and the others by the arrow keys from there. */
  #reachable() {
    if (!this.#list.querySelector('[tabindex="0"]')) this.#list.lastElementChild?.querySelector("button")?.setAttribute("tabindex", "0");
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const item = /** @type {HTMLElement} */ (event.target).closest("li");
    const target = {
      ArrowUp: item?.previousElementSibling, ArrowDown: item?.nextElementSibling,
      Home: this.#list.firstElementChild, End: this.#list.lastElementChild,
    }[event.key];
    const button = target?.querySelector("button");
    if (!button) return;
    event.preventDefault();
    this.#list.querySelectorAll('[tabindex="0"]').forEach((each) => each.setAttribute("tabindex", "-1"));
    button.tabIndex = 0;
    button.focus();
  }

  /** @param {WireEntry} entry */
  #row(entry) {
    const name = wireName(entry);
    const isFrame = entry.kind === "frame";
    const button = h("button", {
      type: "button", class: "inspector-row", tabindex: "-1", "aria-expanded": "false", title: wireMeaning(entry) || null,
      onclick: () => this.#expand(entry, item, button),
    },
      h("time", { class: "inspector-time" }, frameClock.format(entry.time)),
      isFrame && h("span", { class: "inspector-id" }, entry.id ?? ""),
      isFrame && h("bdi", { class: "inspector-name" }, name),
      h("bdi", { class: "inspector-data" }, wireBrief(entry)),
      entry.mark && h("span", { class: "badge ok" }, entry.mark),
    );
    const kind = isFrame && !name.startsWith("$") ? "record" : "own";
    const item = h("li", { class: `inspector-${entry.kind} inspector-${kind}${entry.mark ? " inspector-marked" : ""}` }, button);
    this.#rows.set(entry.number, item);
    return item;
  }

  /** Shows the whole frame, or hides it again. @param {WireEntry} entry @param {HTMLElement} item @param {HTMLElement} button */
  #expand(entry, item, button) {
    this.pause("look");
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) return item.lastElementChild?.remove();
    const meaning = wireMeaning(entry);
    item.append(h("div", { class: "inspector-whole" },
      meaning && h("p", { class: "muted" }, meaning),
      h("div", { class: "code" },
        h("pre", { class: "code", tabindex: "0", "aria-label": "The data of this frame" }, h("bdi", null, wireFormatted(entry))),
        copyButton(wireText(entry), "Copy", "Copy this frame"))));
  }
}
