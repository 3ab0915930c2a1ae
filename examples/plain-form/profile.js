import { createBroker } from "/broker.js";

// Each window is a user of its own, so that two windows of one browser are two people.
const broker = createBroker(undefined, { storage: "session" });
const find = (selector, within = document) => within.querySelector(selector);
const element = find("#profile");
const form = broker.form("profile", element, { others: true });

/** The groups of the page, one for each field, by the path of the field: the name of its controls. */
const groups = new Map();
for (const group of element.querySelectorAll(".field")) {
  const path = find("[name]", group).name;
  group.append(find("#note").content.cloneNode(true));
  const notes = { problem: find(".problem", group), choice: find(".choice", group), by: find(".by", group) };
  const described = group.matches("fieldset") ? group : find("[name]", group);
  notes.problem.id = `${path}-problem`;
  notes.by.id = `${path}-by`;
  described.setAttribute("aria-describedby", `${path}-problem ${path}-by`);
  for (const how of ["keep", "take"])
    find(`.${how}`, group).onclick = () => {
      form[how](path);
      find("[name]", group).focus(); // the buttons go away, so the keyboard goes back to the control
    };
  groups.set(path, { group, described, ...notes });
}

/** What is in a field, as its page says it: the text of a choice, not its value. */
function words(path, value) {
  const { group } = groups.get(path);
  const label = (each) => {
    const choice = find(`[value="${CSS.escape(each)}"]`, group);
    return choice?.labels?.[0].textContent ?? choice?.text ?? String(each);
  };
  if (value == null || value === "" || value.length === 0) return "nothing";
  return Array.isArray(value) ? value.map(label).join(", ") : typeof value === "boolean" ? (value ? "yes" : "no") : label(value);
}

/** How long ago a time was, by the server's clock. */
function ago(time) {
  const seconds = Math.max(0, Math.round((broker.now() - time) / 1_000));
  if (seconds < 60) return `${seconds} s ago`;
  return seconds < 3_600 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3_600)} h ago`;
}

/** Changes a text only if it is another one, so that a screen reader reads it once. */
function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function showField(path, { conflict, error, by, at } = {}) {
  const { group, described, problem, choice } = groups.get(path);
  const who = conflict?.by ?? "Somebody else";
  say(problem, conflict ? `${who} has changed this to: ${words(path, conflict.theirs)}` : (error ?? ""));
  group.classList.toggle("wrong", Boolean(conflict || error));
  if (error) described.setAttribute("aria-invalid", "true");
  else described.removeAttribute("aria-invalid");
  choice.hidden = !conflict;
  if (conflict) {
    say(find(".keep", group), `Keep mine: ${words(path, conflict.mine)}`);
    say(find(".take", group), `Take theirs: ${words(path, conflict.theirs)}`);
  }
  groups.get(path).changed = by && !conflict ? { by, at } : undefined;
}

function showTimes() {
  for (const { by, changed } of groups.values()) say(by, changed ? `Changed by ${changed.by}, ${ago(changed.at)}` : "");
}

/** One line for the whole form, and why it is not saved. */
function showForm({ status, error, saved, saving, refused, undoable, redoable, fields, others }) {
  const left = Object.values(fields).filter((field) => field.conflict || field.error).length;
  const offline = !["live", "connecting", "idle"].includes(broker.status.get());
  const problem = refused ?? error;
  if (problem) say(find("#problem"), `Not saved: ${problem.message}`);
  else if (offline) say(find("#problem"), "The server cannot be reached. Type on: what you type is kept, and saved later.");
  else say(find("#problem"), "");
  const waits = offline || !broker.user.get() || !saving;
  const word = saved ? "Saved" : problem || waits ? "Not saved yet" : "Saving …";
  const lacks = left === 1 ? "One field is not saved" : `${left} fields are not saved`;
  say(find("#state"), status === "loading" ? "Loading …" : left ? lacks : word);
  find("#state").className = problem || left ? "wrong" : saved ? "saved" : "";
  find("#undo").ariaDisabled = String(!undoable);
  find("#redo").ariaDisabled = String(!redoable);
  say(find("#others"), others.length ? `Also open: ${others.join(", ")}` : "");
}

function show() {
  const state = form.state.get();
  for (const path of groups.keys()) showField(path, state.fields[path]);
  showTimes();
  showForm(state);
}

form.state.subscribe(show);
broker.status.subscribe(show);
setInterval(showTimes, 1_000);
for (const what of ["undo", "redo"]) find(`#${what}`).onclick = (event) => event.target.ariaDisabled === "true" || form[what]();

// Only users may write. What is typed before somebody has said a name is given to this user.
const enter = find("#enter");
broker.user.subscribe((user) => (enter.hidden = Boolean(user && !user.expired)));
enter.onsubmit = async (event) => {
  event.preventDefault();
  const name = enter.elements.username.value.trim();
  const key = (sessionStorage.password ??= crypto.randomUUID());
  const known = broker.user.get()?.username === name;
  try {
    await (known ? broker.logIn(name, key) : broker.signUp(name, key, { adopt: true }));
    find("[name]", element).focus();
  } catch (problem) {
    say(find("#enter-problem"), problem.status === 409 ? `${name} is taken. Choose another name.` : problem.message);
  }
};
