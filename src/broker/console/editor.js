// The tab in which one writes a new version. Every insert is a version of its own, on the condition that nobody else has
// changed the event since the text was read.

import { prettyJson } from "./comparison.js";
import { ConflictPanel } from "./conflict.js";
import { jsonPlace } from "./difference.js";
import { toast } from "./dialog.js";
import { takeDraft } from "./draft.js";
import { EditorForm } from "./editor_form.js";
import { compactJson } from "./format.js";
import { h } from "./h.js";
import { guardText } from "./leaving.js";
import { pendingList } from "./pending.js";
import { confirmInsert, confirmRemoval, isFirstVersion, problemText } from "./questions.js";
import { removedNotice } from "./removed.js";
import { wasNeverThere } from "./subject.js";
import { timeText } from "./times.js";
import { authorOf, laterEnd, latestIn } from "./version.js";
import { VersionWriter } from "./writes.js";

/** @import { ProblemError } from "./api.js" */
/** @import { EventFacts, Subject } from "./subject.js" */
/** @import { Context } from "./types.js" */
/** @import { VersionRecord } from "./version.js" */
/** @import { Moment } from "./when.js" */

/** @param {Context} ctx @param {Subject} subject */
export const editTab = (ctx, subject) => new Editor(ctx, subject).element;

class Editor {
  /** The version that the text is an edit of; null: there was none. @type {VersionRecord | null} */
  #base = null;
  /** The text that was shown for it. */
  #shown = "";
  /** The newer version that is not taken yet; null: it was removed. @type {VersionRecord | null} */
  #theirs = null;
  #begun = false;
  #busy = false;

  /** @param {Context} ctx @param {Subject} subject */
  constructor(ctx, subject) {
    this.ctx = ctx;
    this.subject = subject;
    this.writer = new VersionWriter(ctx);
    this.conflict = new ConflictPanel(ctx, subject.name, {
      take: () => this.#giveUp(this.#theirs), merge: (text) => this.#rebase(text), overwrite: () => this.#rebase(null),
    });
    this.form = new EditorForm(ctx, this.conflict.element, {
      change: () => (this.#update(), this.conflict.typed()),
      insert: () => this.#save(),
      discard: () => this.#giveUp(this.subject.get().latest),
      remove: () => this.#remove(),
    });
    this.field = this.form.field;
    this.element = h("div", { class: "event-edit" }, removedNotice(ctx, subject, (version) => this.#restore(version)), this.form.element, pendingList(ctx, subject));
    ctx.commands([{ name: "Insert this version", run: () => this.#save() }, { name: "Format the JSON", run: () => this.field.format() }]);
    guardText(ctx, subject, () => ({ dirty: this.#dirty, text: this.field.text, base: this.#base }));
    ctx.watch(subject, (facts) => facts.known && this.#follow(facts));
    this.#update();
  }

  get #dirty() {
    return this.field.text !== this.#shown;
  }

  /** The server has something new, or it is known for the first time. @param {EventFacts} facts */
  #follow(facts) {
    const { latest, rights, removal } = facts;
    this.field.sayEmpty(!latest && removal ? "" : "No data yet.");
    this.form.permit(rights, this.subject.user);
    this.#update();
    if (this.#busy || (this.#begun && !rights.read)) return;
    if (!this.#begun) return this.#begin(latest);
    if (latest?.uuid === this.#base?.uuid) {
      this.conflict.hide();
      return this.#showPending();
    }
    const isOwn = latest !== null && latest.uuid === this.writer.uuid; // the response to it was lost
    if (isOwn && this.#compact() === latest.data) {
      this.form.refuse("");
      toast("Inserted.");
      return this.#adopt(latest, this.field.text);
    }
    if (this.#dirty) return this.#warn(facts);
    this.#adopt(latest);
    this.ctx.announce(latest ? `${authorOf(latest)} has changed ${this.subject.name}` : `${this.subject.name} was removed`);
  }

  /** What a new event will be, as long as it has no value. */
  #showPending() {
    const facts = this.subject.get();
    if (!wasNeverThere(facts) || this.#dirty) return;
    const next = facts.pending.find(({ data }) => data !== "null");
    const text = next ? prettyJson(next.data) : "";
    if (text !== this.#shown) this.#adopt(null, text);
    this.form.note(next ? `Nothing is published yet. This is what is due ${timeText(1_000 * next.timestamp)}.` : "");
  }

  /** @param {VersionRecord | null} latest */
  #begin(latest) {
    this.#begun = true;
    const draft = takeDraft(this.subject.user, this.subject.name);
    const base = draft?.base;
    this.#adopt(base === undefined ? latest : base);
    if (draft) {
      this.field.show(draft.text);
      this.form.note(draft.note);
      this.#update();
      this.#follow(this.subject.get());
    }
    if (!draft) this.#showPending();
    if (draft || !latest || this.ctx.query.has("focus")) this.field.area.focus();
    this.ctx.setQuery("focus", null);
  }

  /** Takes a version as the one that is edited. @param {VersionRecord | null} version @param {string} [text] */
  #adopt(version, text = version ? prettyJson(version.data) : "") {
    this.#base = version;
    this.#shown = text;
    if (text !== this.field.text) this.field.show(text);
    this.form.when.propose(version?.until && 1_000 * version.until);
    this.form.note("");
    this.conflict.hide();
    this.#update();
  }

  /** @param {EventFacts} facts */
  #warn({ latest, removal }) {
    this.#theirs = latest;
    this.conflict.show({ base: this.#base, latest, removal, mine: () => this.#compact(), isOwn: (latest ?? removal)?.user === this.subject.user });
  }

  /** The text without white space; null if it is not valid. */
  #compact() {
    const place = jsonPlace(this.field.text);
    return place && compactJson(place.text, place.node);
  }

  #update() {
    this.form.update({ busy: this.#busy, ready: this.#begun, dirty: this.#dirty, exists: this.subject.get().latest !== null });
  }

  /** Gives up what is typed. @param {VersionRecord | null} version */
  #giveUp(version) {
    this.form.refuse("");
    this.#adopt(version);
    this.#showPending();
    this.field.area.focus();
  }

  /** Makes the edit one of the newest version. @param {string | null} text  JSON to insert; null: the text of the field */
  #rebase(text) {
    const typed = text === null ? this.field.text : prettyJson(text);
    this.#base = this.#theirs;
    this.#shown = this.#base ? prettyJson(this.#base.data) : "";
    this.field.show(typed);
    this.conflict.hide();
    this.#update();
    this.#save();
  }

  async #save() {
    const { rights } = this.subject.get();
    if (this.#busy || !rights.insert || !this.field.read()) return;
    const data = /** @type {string} */ (this.#compact());
    const moment = this.form.when.read();
    if (!moment) return;
    // What somebody else has changed comes first: as it is, it would be refused.
    if (moment.at === null && this.conflict.isShown) return this.conflict.open("Not stored yet");
    if (data === "null" && moment.at === null) return this.#remove();
    // What is confirmed is what is sent, whatever comes while the question is open.
    const [base, typed] = [this.#base, this.field.text];
    const compared = moment.at === null ? base : this.subject.get().latest;
    if (isFirstVersion(this.subject.get(), moment) || (await confirmInsert(this.ctx, compared?.data ?? null, data, moment))) await this.#send(data, moment, base, typed);
  }

  /** @param {string} data @param {Moment} moment @param {VersionRecord | null} base @param {string} typed */
  async #send(data, { at, until }, base, typed) {
    await this.#write(async () => {
      // Who may not read the event cannot know the newest version.
      const latest = this.subject.get().rights.read ? base : undefined;
      const stored = await this.writer.insert({ event: this.subject.name, data, at, until, latest });
      this.subject.wrote(stored.id);
      if (at === null) {
        // What was typed while it was sent is an edit of the new version.
        this.#base = stored;
        this.#shown = typed;
        this.form.when.propose(stored.until && 1_000 * stored.until);
        this.conflict.hide();
        toast("Inserted.");
      } else {
        const { latest } = this.subject.get();
        this.#adopt(latest, latest ? prettyJson(latest.data) : typed);
        toast(`Scheduled for ${timeText(at)}.`);
      }
      this.form.note("");
    });
  }

  async #remove() {
    const { latest } = this.subject.get();
    if (this.#busy || !latest) return;
    if (!(await confirmRemoval(this.subject.name, this.subject.get().pending.length > 0))) return;
    await this.#write(async () => {
      const stored = await this.writer.insert({ event: this.subject.name, data: "null", latest });
      this.subject.wrote(stored.id);
      if (!this.#dirty) this.#adopt(null);
      else [this.#base, this.#shown] = [null, ""]; // what was typed stays, as a new beginning
      this.conflict.hide();
      const undo = () => this.#write(async () => this.#undone(await this.writer.insert({ event: latest.event, data: latest.data, until: laterEnd(latest, this.ctx.broker.now()), latest: stored })));
      toast("Removed.", { label: "Undo", run: undo, signal: this.ctx.signal });
    });
  }

  /** The value is there again, as a version of its own. @param {VersionRecord} version */
  #undone(version) {
    this.subject.wrote(version.id);
    if (!this.#dirty) this.#adopt(version);
    else [this.#base, this.#shown] = [version, prettyJson(version.data)];
    toast("The value is there again.");
  }

  /** @param {VersionRecord} version */
  #restore({ data }) {
    this.field.show(prettyJson(data));
    this.#update();
    this.#save();
  }

  /** Sends something, and shows what is wrong if it is refused. @param {() => Promise<void>} run */
  async #write(run) {
    this.#busy = true;
    this.form.refuse("");
    this.#update();
    try {
      await run();
    } catch (reason) {
      if (this.ctx.signal.aborted) return;
      const error = /** @type {ProblemError} */ (reason);
      this.subject.refresh();
      if (error.status === 412) this.#refused(latestIn(error.text));
      else this.form.refuse(problemText(error));
    } finally {
      this.#busy = false;
      this.#update();
    }
  }

  /** Somebody else was faster. @param {VersionRecord | null} latest */
  #refused(latest) {
    const isGone = latest === null || latest.data === "null";
    this.#warn({ ...this.subject.get(), latest: isGone ? null : latest, removal: isGone ? latest : null });
    this.conflict.open("Not stored");
  }
}
