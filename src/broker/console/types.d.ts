// What the modules of the console agree on.

import type { Broker, Store } from "../js/types.js";

export type Child = Node | string | number | null | undefined | false | Child[];
export type Props = { [name: string]: any };

/** What `GET /about` responds. */
export interface About {
  version: string;
  console_name: string;
  /** Whether everybody may create a user. */
  signup: boolean;
  /** Whether there is no user yet. */
  first_run: boolean;
  /** Whether this log has rules. */
  rules: boolean;
  /** The server's clock, in seconds. */
  time: number;
  limits: { [name: string]: number };
}

/** A place in the console, as the part of the address behind `#` says it. */
export interface Route {
  /** The name of the screen. */
  name: string;
  params: string[];
  query: URLSearchParams;
}

export interface Command {
  name: string;
  /** A key, or two that follow each other, such as `n` or `g e`. */
  keys?: string;
  run: () => unknown;
}

/** Requests of a screen. They carry the token, and end with the screen. */
export interface Api {
  /** Raises a ProblemError. */
  get(path: string): Promise<Response>;
  /** `body` is JSON text, or a value that becomes it. Raises a ProblemError. */
  post(path: string, body: unknown): Promise<Response>;
}

/** What a screen is given; another one for each screen, and for each user. */
export interface Context extends Route {
  readonly broker: Broker;
  readonly about: About;
  /** Aborted when the screen is left. */
  readonly signal: AbortSignal;
  readonly api: Api;
  /** Follows a store until the screen is left. */
  watch<T>(store: Store<T>, run: (value: T) => void): void;
  /** Listens until the screen is left. */
  listen(target: EventTarget, type: string, run: (event: any) => void, options?: AddEventListenerOptions): void;
  /** What the tab is called. */
  title(text: string): void;
  /** Opens another screen: `#/schedule`. */
  go(route: string): void;
  /** Changes the address of this screen without opening it anew; null takes the parameter out. */
  setQuery(name: string, value: string | null): void;
  /** Lets screen readers announce a text. Only summaries are announced, never what a table shows. */
  announce(text: string): void;
  /** Adds commands to the palette while this screen is shown. */
  commands(list: Command[]): void;
  /** Is asked before the screen is left; false keeps it. */
  guard(mayLeave: () => boolean | Promise<boolean>): void;
  /** Makes this screen anew, because what it shows may not be read any more. */
  renew(): void;
}

export type Screen = (ctx: Context) => Element;
