import { useEffect, useState, type FormEvent } from "react";
import type { Event, Version } from "zerocode-broker";
import { useBroker, useEventState, useStore, useUser } from "zerocode-broker/react";
import { Avatar } from "./Avatar";
import { COLUMNS, type Task } from "./task";
import { ago, useNow } from "./time";

const VERSIONS_MAX = 50;

export function History({ id, close }: { id: string; close: () => void }) {
  const event = useBroker().event(`tasks/${id}`);
  const task = useStore(event);
  const user = useUser();
  const versions = useVersions(event, user !== null);
  const [note, setNote] = useState("");
  const title = task?.title ?? versions.find(({ data }) => data)?.data?.title ?? "";

  function rename(submit: FormEvent<HTMLFormElement>) {
    submit.preventDefault();
    const title = String(new FormData(submit.currentTarget).get("title")).trim();
    if (title && title !== task?.title) event.patch({ title });
  }

  return (
    <aside aria-labelledby="history-title" onKeyDown={({ key }) => key === "Escape" && close()}>
      <div className="bar">
        <h2 id="history-title"><span className="quiet">History of</span> {title}</h2>
        <button autoFocus onClick={close}>Close</button>
      </div>
      {user && task && (
        <form className="add" onSubmit={rename} key={task.title}>
          <input name="title" aria-label="Title" defaultValue={task.title} maxLength={200} />
          <button>Rename</button>
        </form>
      )}
      {user ? (
        <>
          <div className="bar steps">
            <button onClick={() => setNote(event.undo() ? "" : "You have changed nothing here that can be undone.")}>↶ Undo</button>
            <button onClick={() => setNote(event.redo() ? "" : "There is nothing to redo.")}>↷ Redo</button>
            {task && <button className="danger" onClick={() => event.remove()}>Remove</button>}
          </div>
          {note && <p className="quiet" role="status">{note}</p>}
          <ol>
            {versions.map((version, index) => (
              <Entry key={version.uuid} version={version} before={versions[index + 1]} latest={index === 0} restore={(data) => event.set(data)} />
            ))}
          </ol>
        </>
      ) : (
        <p className="quiet">Log in to see who has changed this task, and when.</p>
      )}
    </aside>
  );
}

interface EntryOptions {
  version: Version<Task | null>;
  before: Version<Task | null> | undefined;
  latest: boolean;
  restore: (data: Task) => void;
}

function Entry({ version: { data, user, published_at }, before, latest, restore }: EntryOptions) {
  const time = 1000 * (published_at ?? 0);
  return (
    <li>
      <Avatar name={user} />
      <p>
        <b>{user}</b> {change(data, before?.data)}
        <time dateTime={new Date(time).toISOString()} title={new Date(time).toLocaleString()}>
          {ago(time, useNow())}
        </time>
      </p>
      {data && !latest && (
        <button aria-label={`Restore “${data.title}” in ${COLUMNS[data.column]}`} onClick={() => restore(data)}>
          Restore
        </button>
      )}
    </li>
  );
}

/** What a version has changed, in words. */
function change(now: Task | null, before: Task | null | undefined): string {
  if (!now) return "removed it";
  if (!before) return before === null ? "brought it back" : `wrote “${now.title}”`;
  const changes = [];
  if (now.title !== before.title) changes.push(`renamed it to “${now.title}”`);
  if (now.column !== before.column) changes.push(`moved it to ${COLUMNS[now.column]}`);
  return changes.join(" and ") || "wrote it again";
}

/** The log, read again with each new version. */
function useVersions(event: Event<Task>, may: boolean) {
  const { id } = useEventState(event.name);
  const [versions, setVersions] = useState<Version<Task | null>[]>([]);
  useEffect(() => {
    let over = false;
    async function read() {
      const all = [];
      for await (const version of event.log({ limit: VERSIONS_MAX })) if (version.published && all.push(version) === VERSIONS_MAX) break;
      if (!over) setVersions(all);
    }
    if (may) read().catch(console.error);
    return () => {
      over = true;
    };
  }, [event, id, may]);
  return versions;
}
