import type { ReactNode } from "react";
import { useEventForm, useStatus, useUser, type EventForm } from "zerocode-broker/react";
import { Choices, Field, FormContext } from "./Field";

export function Profile({ children }: { children: ReactNode }) {
  const form = useEventForm("profile", { others: true });
  return (
    <main>
      <header>
        <h1>Profile</h1>
        <p id="others">{form.others.length > 0 && `Also open: ${form.others.join(", ")}`}</p>
      </header>
      {children}
      <form id="profile" aria-labelledby="title" ref={form.ref}>
        <h2 id="title" className="unseen">The profile</h2>
        <State form={form} />
        <FormContext value={form}>
          <Field path="name" label="Full name">{(control) => <input required {...control} />}</Field>
          <Field path="team" label="Team">
            {(control) => (
              <select {...control}>
                <option value="">Not chosen</option>
                <option value="design">Design</option>
                <option value="engineering">Engineering</option>
                <option value="support">Support</option>
              </select>
            )}
          </Field>
          <Field path="about" label="About" wide>{(control) => <textarea rows={3} {...control} />}</Field>
          <Field path="start" label="First day">{(control) => <input type="date" {...control} />}</Field>
          <Field path="hours" label="Hours a week">
            {(control) => <input type="number" min={0} max={60} inputMode="numeric" {...control} />}
          </Field>
          <Field path="address.street" label="Street">{(control) => <input autoComplete="off" {...control} />}</Field>
          <Field path="address.city" label="City">{(control) => <input autoComplete="off" {...control} />}</Field>
          <Choices path="works" label="Works" type="radio" choices={{ office: "In the office", home: "At home", both: "Both" }} />
          <Choices path="languages" label="Languages" type="checkbox" choices={{ en: "English", de: "German", el: "Greek" }} />
          <Choices path="newsletter" label="News" type="checkbox" choices={{ on: "Send me the newsletter" }} wide />
        </FormContext>
      </form>
    </main>
  );
}

/** One line for the whole form, and why it is not saved. */
function State({ form }: { form: EventForm }) {
  const offline = !["live", "connecting", "idle"].includes(useStatus());
  const user = useUser();
  const problem = form.refused ?? form.error;
  const left = Object.values(form.fields).filter((field) => field.conflict || field.error).length;

  let word = form.saved ? "Saved" : problem || offline || !user || !form.saving ? "Not saved yet" : "Saving …";
  if (left) word = left === 1 ? "One field is not saved" : `${left} fields are not saved`;
  if (form.status === "loading") word = "Loading …";
  return (
    <>
      <div className="bar">
        <p id="state" className={problem || left ? "wrong" : form.saved ? "saved" : ""}>{word}</p>
        <button type="button" aria-disabled={!form.undoable} onClick={() => form.undoable && form.undo()}>Undo</button>
        <button type="button" aria-disabled={!form.redoable} onClick={() => form.redoable && form.redo()}>Redo</button>
      </div>
      <p id="problem" className="problem" role="alert">
        {problem
          ? `Not saved: ${problem.message}`
          : offline && "The server cannot be reached. Type on: what you type is kept, and saved later."}
      </p>
    </>
  );
}
