import { Suspense, useState, type FormEvent } from "react";
import { SignedIn, SignedOut, useBroker, useStatus, useStore, useUser } from "zerocode-broker/react";
import { Avatar } from "./Avatar";
import { Board } from "./Board";
import { History } from "./History";

export function App() {
  const [chosen, choose] = useState<string | null>(null);

  function close() {
    if (chosen) document.getElementById(chosen)?.focus(); // where the keyboard was before
    choose(null);
  }

  return (
    <>
      <header>
        <h1>Task board</h1>
        <Connection />
        <SignedIn>
          <Account />
        </SignedIn>
      </header>
      <Refused />
      <SignedOut>
        <Login />
      </SignedOut>
      <div className={chosen ? "page open" : "page"}>
        <Suspense fallback={<p className="quiet" role="status">Loading the tasks …</p>}>
          <Board chosen={chosen} choose={choose} />
        </Suspense>
        {chosen && <History key={chosen} id={chosen} close={close} />}
      </div>
    </>
  );
}

const TEXTS = { idle: "", connecting: "Connecting …", live: "Live", reconnecting: "Reconnecting …", offline: "Offline", denied: "No access" };

function Connection() {
  const status = useStatus();
  const waiting = useWaiting();
  return (
    <p className={`connection ${status}`} role="status">
      {TEXTS[status]}
      {waiting && status !== "live" && ` · ${waiting}`}
    </p>
  );
}

/** How many changes the server does not have yet, in words. */
function useWaiting() {
  const unsent = useStore(useBroker().outbox).filter((write) => write.state !== "refused").length;
  return unsent === 0 ? "" : unsent === 1 ? "1 change waits" : `${unsent} changes wait`;
}

function Account() {
  const broker = useBroker();
  const user = useUser();
  return (
    <div className="account">
      <Avatar name={user?.username} />
      <strong>{user?.username}</strong>
      <button title={`Logged in as ${user?.username}`} onClick={() => broker.logOut({ discard: true })}>Log out</button>
    </div>
  );
}

function Login() {
  const broker = useBroker();
  const user = useUser(); // whose session has ended
  const waiting = useWaiting();
  const [error, setError] = useState("");

  function enter(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const how = (event.nativeEvent as SubmitEvent).submitter?.dataset.how === "new" ? broker.signUp : broker.logIn;
    how(String(form.get("name")), String(form.get("password"))).catch((error: Error) => setError(error.message));
  }

  return (
    <form className="login" onSubmit={enter}>
      <p role={user ? "alert" : undefined}>
        {user
          ? `Your session has ended. Log in again${waiting && `; ${waiting}`}.`
          : "Everybody can read the board. Log in to change it, and to see who has changed what."}
      </p>
      <label>
        Name
        <input name="name" required defaultValue={user?.username} autoComplete="username" autoCapitalize="none" />
      </label>
      <label>
        Password
        <input name="password" type="password" required minLength={8} autoComplete="current-password" />
      </label>
      <button className="main">Log in</button>
      {!user && <button data-how="new">Create account</button>}
      <p className="error" role="alert">{error}</p>
    </form>
  );
}

/** What the server has refused stays here until somebody has read it. */
function Refused() {
  const { outbox } = useBroker();
  const refused = useStore(outbox).filter((write) => write.state === "refused");
  return refused.map(({ uuid, error }) => (
    <p className="refused" role="alert" key={uuid}>
      {error?.status === 412 ? "Somebody else was faster, so your change was not made." : `A change was refused: ${error?.message}`}
      <button onClick={() => outbox.discard(uuid)}>OK</button>
    </p>
  ));
}
