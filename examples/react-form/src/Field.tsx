import { createContext, useContext, useSyncExternalStore, type ReactNode } from "react";
import { useBroker, type EventForm } from "zerocode-broker/react";

export const FormContext = createContext<EventForm>(undefined!);

/** A control with its label, and what there is to tell of its field. */
export function Field({ path, label, wide = false, children }: {
  path: string;
  label: string;
  wide?: boolean;
  children: (control: { id: string; name: string } & ReturnType<typeof described>) => ReactNode;
}) {
  const field = useContext(FormContext).field(path);
  const wrong = field.conflict || field.error;
  return (
    <div className={`field ${wide ? "wide" : ""} ${wrong ? "wrong" : ""}`}>
      <label htmlFor={path}>{label}</label>
      {children({ id: path, name: path, ...described(path, field.error) })}
      <Note path={path} />
    </div>
  );
}

/** Radio buttons or check boxes of one name. */
export function Choices({ path, label, type, choices, wide = false }: {
  path: string;
  label: string;
  type: "radio" | "checkbox";
  choices: Record<string, string>;
  wide?: boolean;
}) {
  const field = useContext(FormContext).field(path);
  const wrong = field.conflict || field.error;
  return (
    <fieldset className={`field ${wide ? "wide" : ""} ${wrong ? "wrong" : ""}`} {...described(path)}>
      <legend>{label}</legend>
      {Object.entries(choices).map(([value, text]) => (
        <label key={value}>
          <input type={type} name={path} value={value} />
          {text}
        </label>
      ))}
      <Note path={path} />
    </fieldset>
  );
}

const described = (path: string, error?: string) => ({
  "aria-describedby": `${path}-problem ${path}-by`,
  "aria-invalid": error ? true : undefined,
});

function Note({ path }: { path: string }) {
  const form = useContext(FormContext);
  const { conflict, error, by, at } = form.field(path);
  const theirs = conflict && words(path, conflict.theirs);

  function end(how: "keep" | "take") {
    form[how](path);
    document.getElementsByName(path)[0]?.focus(); // the buttons go away, so the keyboard goes back to the control
  }

  return (
    <div className="note">
      <p className="problem" role="alert" id={`${path}-problem`}>
        {conflict ? `${conflict.by ?? "Somebody else"} has changed this to: ${theirs}` : error}
      </p>
      {conflict && (
        <p className="choice">
          <button type="button" onClick={() => end("keep")}>Keep mine: {words(path, conflict.mine)}</button>
          <button type="button" onClick={() => end("take")}>Take theirs: {theirs}</button>
        </p>
      )}
      <p className="by" id={`${path}-by`}>{by && at && !conflict && <>Changed by {by}, <Ago time={at} /></>}</p>
    </div>
  );
}

const CHOICES = ["checkbox", "radio"];

/** What is in a field, as its page says it: the text of a choice, not its value. */
function words(path: string, value: unknown): string {
  const controls = [...document.getElementsByName(path)];
  const label = (each: unknown) => {
    for (const control of controls) {
      if (control instanceof HTMLSelectElement) return [...control.options].find((option) => option.value === each)?.text ?? String(each);
      if (control instanceof HTMLInputElement && control.value === each && CHOICES.includes(control.type))
        return control.labels?.[0]?.textContent ?? control.value;
    }
    return String(each);
  };
  if (value == null || value === "") return "nothing";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return Array.isArray(value) ? value.map(label).join(", ") || "nothing" : label(value);
}

/** How long ago a time was, by the server's clock. */
function Ago({ time }: { time: number }) {
  const broker = useBroker();
  const seconds = useSyncExternalStore(everySecond, () => Math.max(0, Math.round((broker.now() - time) / 1_000)));
  if (seconds < 60) return `${seconds} s ago`;
  return seconds < 3_600 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3_600)} h ago`;
}

function everySecond(run: () => void) {
  const timer = setInterval(run, 1_000);
  return () => clearInterval(timer);
}
