import { useState, type FormEvent } from "react";
import type { BrokerError } from "zerocode-broker";
import { SignedOut, useBroker, useUser } from "zerocode-broker/react";

/** Only users may write. What is typed before somebody has said a name is given to this user. */
export function Enter() {
  const broker = useBroker();
  const user = useUser();
  const [problem, setProblem] = useState("");

  async function enter(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget).get("username")).trim();
    const password = (sessionStorage.password ??= crypto.randomUUID());
    try {
      await (user?.username === name ? broker.logIn(name, password) : broker.signUp(name, password, { adopt: true }));
      document.getElementById("name")?.focus();
    } catch (error) {
      const { status, message } = error as BrokerError;
      setProblem(status === 409 ? `${name} is taken. Choose another name.` : message);
    }
  }

  return (
    <SignedOut>
      <form id="enter" onSubmit={enter}>
        <label htmlFor="your-name">Your name, as the others see it</label>
        <div className="row">
          <input id="your-name" name="username" required maxLength={40} pattern="[A-Za-z0-9._@+\-]+" title="letters and digits, without spaces" autoComplete="nickname" autoCapitalize="none" aria-describedby="enter-problem" />
          <button className="main">Start</button>
        </div>
        <p id="enter-problem" className="problem" role="alert">{problem}</p>
      </form>
    </SignedOut>
  );
}
