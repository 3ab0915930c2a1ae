import { useState, type FormEvent, type KeyboardEvent } from "react";
import { useBroker, useEvents, useEventState, useReady, useUser } from "zerocode-broker/react";
import { Avatar } from "./Avatar";
import { COLUMNS, columns, type Column, type Task } from "./task";
import { ago, useNow } from "./time";

interface Choice {
  chosen: string | null;
  choose: (id: string | null) => void;
}

export function Board(choice: Choice) {
  useReady(useBroker().events("tasks/"));
  const [tasks, collection] = useEvents("tasks/", { sort: byTime });
  const [over, setOver] = useState<Column | null>(null);
  const user = useUser();
  return (
    <main>
      {columns.map((column) => {
        const here = tasks.filter(([, task]) => task.column === column);
        return (
          <section
            key={column}
            className={`${column} ${over === column ? "over" : ""}`}
            aria-label={COLUMNS[column]}
            onDragOver={(event) => (event.preventDefault(), setOver(column))}
            onDragLeave={() => setOver(null)}
            onDrop={(event) => (setOver(null), collection.patch(event.dataTransfer.getData("text/plain"), { column }))}
          >
            <h2>
              {COLUMNS[column]} <span className="count">{here.length}</span>
            </h2>
            <ul>
              {here.map(([id, task]) => (
                <Card key={id} id={id} task={task} {...choice} />
              ))}
            </ul>
            {here.length === 0 && <p className="empty">{hint(column, tasks.length > 0, user !== null)}</p>}
            {column === "todo" && <Add />}
          </section>
        );
      })}
    </main>
  );
}

/** What can be done about an empty column. */
function hint(column: Column, anyTasks: boolean, mayWrite: boolean) {
  if (!anyTasks && column === "todo") return mayWrite ? "Add the first task." : "Log in, and add the first task.";
  return anyTasks && mayWrite ? "Drag a card here, or use its arrows." : "Nothing here yet.";
}

// The keys are ordered by time.
const byTime = ([a]: [string, Task], [b]: [string, Task]) => (a < b ? -1 : 1);

function Card({ id, task, chosen, choose }: { id: string; task: Task } & Choice) {
  const event = useBroker().event(`tasks/${id}`);
  const { by, at, pending } = useEventState(event.name);
  const user = useUser();
  const now = useNow();
  const place = columns.indexOf(task.column);

  function move(steps: number) {
    const column = columns[place + steps];
    if (!column || !user) return;
    event.patch({ column });
    requestAnimationFrame(() => document.getElementById(id)?.focus()); // it is another element now
  }

  function onKeyDown({ key }: KeyboardEvent) {
    if (key === "ArrowLeft") move(-1);
    if (key === "ArrowRight") move(1);
  }

  return (
    <li
      className={id === chosen ? "chosen" : ""}
      draggable={user !== null}
      onDragStart={({ dataTransfer }) => dataTransfer.setData("text/plain", id)}
    >
      <button
        id={id}
        className="title"
        aria-expanded={id === chosen}
        onClick={() => choose(id === chosen ? null : id)}
        onKeyDown={onKeyDown}
      >
        {task.title}
      </button>
      <footer>
        <Avatar name={by} />
        <span className="quiet">
          {by && <b>{by}</b>} <span>{pending ? "saving …" : ago(at, now)}</span>
        </span>
        {user && place > 0 && <Move text={`Move “${task.title}” to ${COLUMNS[columns[place - 1]!]}`} sign="←" go={() => move(-1)} />}
        {user && place < 2 && <Move text={`Move “${task.title}” to ${COLUMNS[columns[place + 1]!]}`} sign="→" go={() => move(1)} />}
      </footer>
    </li>
  );
}

function Move({ text, sign, go }: { text: string; sign: string; go: () => void }) {
  return (
    <button className="move" aria-label={text} title={`${text} (key ${sign})`} onClick={go}>
      {sign}
    </button>
  );
}

function Add() {
  const collection = useEvents("tasks/")[1];
  const user = useUser();
  if (!user) return null;

  function add(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const title = String(new FormData(event.currentTarget).get("title")).trim();
    if (title) collection.add({ title, column: "todo" });
    event.currentTarget.reset();
  }

  return (
    <form className="add" onSubmit={add}>
      <input name="title" aria-label="New task" placeholder="New task" autoComplete="off" maxLength={200} />
      <button className="main">Add</button>
    </form>
  );
}
