// The tab with the log of the event: every version, who has inserted it and when, and what has become of it.

import { h } from "./h.js";
import { readVersions } from "./version.js";
import { versionRow } from "./version_row.js";
import { compareVersions, viewVersion } from "./version_view.js";
import { everySecond } from "./words.js";

/** @import { EventFacts, Subject } from "./subject.js" */
/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */
/** @import { VersionRow } from "./version_row.js" */

const HISTORY_PAGE = 25; // versions that are read at once
const HISTORY_READ_MAX = 200; // that are read again after a change
const HISTORY_SHOWN_MAX = 300; // unless somebody has loaded older ones

/** @param {Context} ctx @param {Subject} subject */
export const historyTab = (ctx, subject) => new VersionList(ctx, subject).element;

class VersionList {
  /** As they are shown, the newest first. @type {VersionRecord[]} */
  #versions = [];
  /** @type {Map<string, VersionRow>} */
  #rows = new Map();
  /** New ones that are not shown yet, so that nothing moves. @type {VersionRecord[]} */
  #waiting = [];
  /** Whether there are others between those that wait and those that are shown. */
  #gap = false;
  #most = HISTORY_SHOWN_MAX;
  #hasMore = false;
  #loaded = false;
  #reading = false;
  #again = false;
  /** The uuids of those that are chosen, in the order of the choice. @type {string[]} */
  #chosen = [];
  #list = h("ol", { class: "event-versions", "aria-label": "Versions" });
  #state = h("p", { class: "empty" }, "Loading …");
  #new = h("button", { type: "button", class: "event-new-versions", hidden: true, onclick: () => this.#showWaiting() });
  #older = h("button", { type: "button", hidden: true, onclick: () => this.#loadOlder() }, "Load older versions");
  #compare = h("button", { type: "button", disabled: true, onclick: () => this.#showComparison() }, "Compare");
  #hint = h("span", { class: "muted event-hint" }, "Tick two versions to compare them.");

  /** @param {Context} ctx @param {Subject} subject */
  constructor(ctx, subject) {
    this.ctx = ctx;
    this.subject = subject;
    this.element = h("div", { class: "event-history" }, h("div", { class: "toolbar" }, this.#compare, this.#hint, this.#new), this.#list, this.#state, this.#older);
    ctx.watch(subject, (facts) => this.#follow(facts));
    everySecond(ctx, () => this.#rows.forEach((row) => row.tick()));
  }

  /** @param {EventFacts} facts */
  #follow({ known, rights, error }) {
    if (!known) return this.#say(error || "Loading …");
    if (!this.subject.user) return this.#say("Sign in to see the history.");
    if (!rights.log) return this.#say("The rules do not permit you to read the log of this event.");
    this.#refresh();
  }

  /** @param {string} text */
  #say(text) {
    this.#state.textContent = text;
    this.#state.hidden = !text;
  }

  /** Reads the newest versions again, as many as are shown: what was pending may be published or cancelled by now. */
  async #refresh() {
    this.#again = true;
    if (this.#reading) return;
    this.#reading = true;
    try {
      while (this.#again && !this.ctx.signal.aborted) {
        this.#again = false;
        const count = this.#versions.length + this.#waiting.length;
        this.#take(await this.#read(Math.min(HISTORY_READ_MAX, count + HISTORY_PAGE)));
      }
    } catch (error) {
      if (!this.ctx.signal.aborted) this.#say(/** @type {Error} */ (error).message);
    } finally {
      this.#reading = false;
    }
  }

  /** @param {number} limit @param {string} [after] */
  async #read(limit, after) {
    const response = await this.ctx.api.get(`collections/${this.subject.path}?order=desc&limit=${limit}${after ? `&after=${after}` : ""}`);
    return { versions: readVersions(await response.text()), more: response.headers.has("Link") };
  }

  /** @param {{versions: VersionRecord[], more: boolean}} page */
  #take({ versions, more }) {
    const first = !this.#loaded;
    this.#loaded = true;
    const known = new Set(this.#versions.map((each) => each.uuid));
    const start = versions.findIndex((each) => known.has(each.uuid));
    const fresh = start < 0 ? versions : versions.slice(0, start);
    for (const version of versions) this.#rows.get(version.uuid)?.update(version);
    if (first) {
      this.#versions = versions.slice(0, HISTORY_PAGE);
      this.#hasMore = more || versions.length > HISTORY_PAGE;
      this.#render();
    } else if (fresh.length) {
      this.#waiting = fresh;
      this.#gap = start < 0;
      if (!this.#isRead()) this.#showWaiting();
      else this.#offer();
    } else this.#render();
  }

  /** Whether somebody is looking at a row, which must not move. */
  #isRead() {
    return this.#versions.length > 0 && (this.#list.matches(":hover") || this.#list.contains(document.activeElement) || this.#list.getBoundingClientRect().top < 0);
  }

  #offer() {
    const count = this.#waiting.length;
    this.#new.hidden = count === 0;
    this.#new.textContent = `↑ ${this.#gap ? "more than " : ""}${count} new ${count === 1 ? "version" : "versions"}`;
  }

  #showWaiting() {
    const hadFocus = document.activeElement === this.#new;
    // If versions are missing in between, a version would be compared with a wrong predecessor. So the list is replaced.
    this.#versions = this.#gap ? this.#waiting : [...this.#waiting, ...this.#versions];
    this.#hasMore ||= this.#gap || this.#versions.length > this.#most;
    this.#versions.splice(this.#most);
    this.#gap = false;
    const flashing = new Set(this.#waiting.map((each) => each.uuid));
    this.#waiting = [];
    this.#offer();
    this.#render(flashing);
    if (hadFocus) this.#rows.get(this.#versions[0].uuid)?.box.focus();
  }

  async #loadOlder() {
    this.#older.disabled = true;
    try {
      const last = this.#versions.at(-1)?.uuid;
      const { versions, more } = await this.#read(HISTORY_PAGE, last);
      const from = this.#versions.length;
      this.#versions.push(...versions);
      this.#most = Math.max(this.#most, this.#versions.length);
      this.#hasMore = more;
      this.#render();
      this.#rows.get(this.#versions[from]?.uuid)?.box.focus();
    } catch (error) {
      if (!this.ctx.signal.aborted) this.#say(/** @type {Error} */ (error).message);
    } finally {
      this.#older.disabled = false;
    }
  }

  /** @param {Set<string>} [flashing] */
  #render(flashing) {
    this.#say(this.#versions.length ? "" : "Nothing was inserted yet.");
    this.#older.hidden = !this.#hasMore;
    this.#compare.hidden = this.#hint.hidden = this.#versions.length < 2;
    this.#drop(new Set(this.#versions.map((each) => each.uuid)));
    this.#versions.forEach((version, index) => {
      let row = this.#rows.get(version.uuid);
      if (!row) {
        row = versionRow(this.ctx, this.subject, version, { choose: (uuid, isChosen) => this.#choose(uuid, isChosen), view: (shown) => this.#view(shown) });
        this.#rows.set(version.uuid, row);
        if (flashing?.has(version.uuid)) row.element.classList.add("flash");
      }
      if (this.#list.children[index] !== row.element) this.#list.insertBefore(row.element, this.#list.children[index] ?? null);
      row.tick();
      row.compare(this.#before(index));
    });
  }

  /** @param {Set<string>} kept */
  #drop(kept) {
    for (const [uuid, row] of this.#rows)
      if (!kept.has(uuid)) {
        row.element.remove();
        this.#rows.delete(uuid);
        if (this.#chosen.includes(uuid)) this.#choose(uuid, false);
      }
  }

  /** The published version before the one at this place. @param {number} index */
  #before(index) {
    return this.#versions.slice(index + 1, index + 1 + HISTORY_PAGE).find((each) => each.id !== null) ?? null;
  }

  /** @param {string} uuid @param {boolean} isChosen */
  #choose(uuid, isChosen) {
    this.#chosen = this.#chosen.filter((each) => each !== uuid);
    if (isChosen) this.#chosen.push(uuid);
    // With a third one, the first choice is given up.
    for (const each of this.#chosen.splice(0, this.#chosen.length - 2)) {
      const row = this.#rows.get(each);
      if (row) row.box.checked = false;
    }
    this.#compare.disabled = this.#chosen.length < 2;
    this.#hint.textContent = ["Tick two versions to compare them.", "Tick one more.", "Two are ticked."][this.#chosen.length];
  }

  #showComparison() {
    const [newer, older] = this.#versions.filter((each) => this.#chosen.includes(each.uuid));
    if (older) compareVersions(older, newer);
  }

  /** @param {VersionRecord} version */
  #view(version) {
    viewVersion(this.ctx, this.subject, version, this.#before(this.#versions.findIndex((each) => each.uuid === version.uuid)));
  }
}
