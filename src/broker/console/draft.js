// Text that somebody has typed or chosen, and that is not inserted yet. It outlives the screen when the session ends, and
// when a version is to be restored, but not the page.

/** @import { VersionRecord } from "./version.js" */

/** `base` is the version that the text is an edit of; undefined: the newest one, whatever it is.
 * @typedef {{text: string, base?: VersionRecord | null, note: string}} Draft */

/** @type {Map<string, Draft>} */
const drafts = new Map();

/** Each user has drafts of his own. @param {string | null} user @param {string} event */
const draftKey = (user, event) => JSON.stringify([user, event]);

/** @param {string | null} user @param {string} event @param {Draft} draft */
export function keepDraft(user, event, draft) {
  drafts.set(draftKey(user, event), draft);
}

/** Hands the draft over, and forgets it. @param {string | null} user @param {string} event */
export function takeDraft(user, event) {
  const key = draftKey(user, event);
  const draft = drafts.get(key);
  drafts.delete(key);
  return draft;
}
