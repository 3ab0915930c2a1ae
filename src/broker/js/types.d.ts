// The contract of Broker's client, written by hand. The sources refer to it, and `tsc --checkJs` holds them to it.

declare global {
  /** The types of your events: `GET /types.d.ts` of a server declares them, and this declaration merges with it. */
  interface BrokerEvents {}
}

/** The type of an event's data: unknown, unless `BrokerEvents` has the event. */
export type Data<Name extends string> = Name extends keyof BrokerEvents ? BrokerEvents[Name] : unknown;

/** The type of the data of the events that begin with a prefix. */
export type DataOf<Prefix extends string> = `${Prefix}${string}` extends keyof BrokerEvents
  ? BrokerEvents[`${Prefix}${string}`]
  : unknown;

/** Milliseconds since 1970, a `Date`, or a text of RFC 3339 with a zone (`2030-01-01T12:00:00Z`). */
export type Time = number | Date | string;

/** A value that can be watched. This is the contract of Svelte's stores, and what React's `useSyncExternalStore` needs:
 * both functions may be passed on without their object. */
export interface Store<T> {
  get(): T;
  /** Calls `run` at once, and after each change; returns a function that ends this. */
  subscribe(run: (value: T) => void): () => void;
}

/** A published version of an event, as it comes on the stream. Times are in seconds, as everywhere in Broker's HTTP. */
export interface EventRecord<T = unknown> {
  id: string | null;
  uuid: string;
  event: string;
  data: T;
  user?: string | null;
  timestamp: number;
  until?: number;
  published_at: number | null;
}

export interface EventState {
  /** `loading`: nothing is known yet. `live`: it is what the server has. `stale`: it was so once, and the connection is
   * interrupted, or not there yet. `denied`: this user may not read it (`error`). */
  status: "loading" | "live" | "stale" | "denied";
  exists: boolean;
  /** How many writes of this client are shown that the stream has not confirmed yet. */
  pending: number;
  /** The id of the version that the stream has brought, when it was published (in milliseconds), and by whom. */
  id?: string | null;
  at?: number;
  by?: string | null;
  error?: BrokerError;
}

/** A version in the log of an event, in whatever state it is: published, pending, cancelled, or only in the log. */
export interface Version<T = unknown> extends EventRecord<T> {
  published: boolean;
  cancelled: boolean;
  inserted_at: number;
}

/** A write that is stored, and whose time has not come yet. */
export interface Pending<T = unknown> {
  readonly uuid: string;
  readonly event: string;
  readonly data: T;
  /** When it is due, in milliseconds. */
  readonly at: number;
  readonly until?: number;
  readonly user: string | null;
}

/** What is pending, by due time. It follows the server as long as somebody watches it; this needs a login. What this
 * client has written and not sent yet is in it, too. */
export interface Schedule extends Store<readonly Pending[]> {
  readonly state: Store<CollectionState>;
  readonly ready: Promise<readonly Pending[]>;
  /** Withdraws a pending write. */
  cancel(uuid: string): Promise<void>;
  /** Gives a pending write another time, in one step: nobody finds both of them, or neither. */
  move(uuid: string, at: Time): Promise<EventRecord>;
}

export interface CollectionState {
  status: EventState["status"];
  pending: number;
  error?: BrokerError;
}

/** An error with the status and the type of the server's response (docs/http.md); a status of 0 means that there was no
 * response of Broker's. */
export class BrokerError extends Error {
  status: number;
  type: string;
  latest?: EventRecord | null;
  /** The part of the data that is refused, such as `address.city`, if the response, or the validator, names one. */
  path?: string;
  /** What a validator says of it, without the name and the path. */
  detail?: string;
}

export interface WriteOptions {
  /** When it is to be published. */
  at?: Time;
  /** When this version ends. */
  until?: Time;
  /** With `at`: whether the server publishes it all the same if it receives it too late. */
  ifLate?: "publish" | "refuse";
  /** The version that must be the latest one, by its id or uuid, or `none`. */
  ifLatest?: string;
}

/** A write on its way. It is rejected if the server refuses the write, or if the write is discarded; to leave it
 * unhandled is no error, because the outbox has every refused write. */
export interface Sent<T = unknown> extends Promise<EventRecord<T>> {
  readonly uuid: string;
  /** The name of the event; for `add`, it was made here. */
  readonly event: string;
  /** Withdraws it: from the outbox, if it was never sent; otherwise on the server, which can cancel what is pending. */
  cancel(): Promise<void>;
}

export type Changes<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [Key in keyof T]?: Changes<T[Key]> | null }
    : T;

export interface Event<T = unknown> extends Store<T | undefined> {
  readonly name: string;
  readonly state: Store<EventState>;
  /** Settles on the first state; rejected if the user may not read the event. */
  readonly ready: Promise<T | undefined>;
  /** Replaces the value, whatever it is meanwhile. */
  set(data: T, options?: WriteOptions): Sent<T>;
  /** Changes fields (a JSON Merge Patch, RFC 7396: `null` takes a field out, and arrays are replaced). If somebody else
   * was faster, the changes are applied to the newer version. */
  patch(changes: Changes<T>): Sent<T>;
  /** Computes the new value from the one that is shown; computed again if somebody else was faster. */
  update(change: (data: T | undefined) => T): Sent<T>;
  /** Removes the event; its log stays. */
  remove(options?: WriteOptions): Sent<null>;
  /** The versions, the newest first. They are read in pages, as far as the loop goes on. This needs a login. */
  log(options?: LogOptions): AsyncIterable<Version<T | null>>;
  /** The value as it was at a time, or as it will be by what is pending now. */
  at(time: Time): Promise<T | undefined>;
  /** Takes this client's last write of the event back: the former value is written, unless somebody else has changed it
   * since (412); a write that is pending is cancelled. Undefined if there is nothing to take back, or if the former value was
   * not known, because nobody watched the event. Another user's login forgets it. */
  undo(): Sent<T | null> | undefined;
  /** Writes again what the last `undo` has taken back. A new write forgets it. */
  redo(): Sent<T | null> | undefined;
}

export interface LogOptions {
  /** How many versions are read in one page; 50 is the default. */
  limit?: number;
  /** The uuid of the version at which to go on, with those before it. */
  before?: string;
}

/** The events whose names begin with a prefix. The keys are the rest of their names. */
export interface Collection<T = unknown> extends Store<ReadonlyMap<string, T>> {
  readonly prefix: string;
  readonly state: Store<CollectionState>;
  readonly ready: Promise<ReadonlyMap<string, T>>;
  /** Calls `run` at once with all keys, and then with those that have changed. The map is the live one: read it, and do
   * not keep it. */
  changes(run: (keys: ReadonlySet<string>, all: ReadonlyMap<string, T>) => void): () => void;
  /** The entries in an order, which is kept change by change. What `sort` takes for equal is ordered by key. */
  list(options?: { sort?: (a: [string, T], b: [string, T]) => number; limit?: number }): Store<[string, T][]>;
  /** With `last`: loads older events. Returns whether there are more. */
  more(): Promise<boolean>;
  /** Inserts an event under a new key, which is a uuid ordered by time. */
  add(data: T, options?: WriteOptions): Sent<T> & { readonly key: string };
  set(key: string, data: T, options?: WriteOptions): Sent<T>;
  patch(key: string, changes: Changes<T>): Sent<T>;
  update(key: string, change: (data: T | undefined) => T): Sent<T>;
  remove(key: string, options?: WriteOptions): Sent<null>;
}

export interface CollectionOptions {
  /** With `false`, names that have a slash behind the prefix are ignored. */
  deep?: boolean;
  /** Begins with so many of the newest events, for long lists; `more` adds as many of the next older ones. */
  last?: number;
}

export interface FormOptions {
  /** `change`, the default: what is typed is saved when somebody leaves the field, and after a second without a key.
   * `submit`: only when the form is submitted, or `save` is called. */
  save?: "change" | "submit" | undefined;
  /** After how many milliseconds without a key what is typed is saved; 1,000 is the default. */
  idle?: number | undefined;
  /** Whether this page tells others that it has the form open, and `state` says who else has. It writes an event
   * `open/NAME/…` every 45 seconds, which needs a login, and the right to read and to write it. A page that is hidden does
   * not count; one that has ended without a word is shown for a minute at most. The log grows by each of these records. */
  others?: boolean | undefined;
}

/** The state of a field. */
export interface FieldState {
  /** Something that was typed here is not stored yet. */
  readonly edited: boolean;
  /** Somebody else has changed the field while something was typed here. What was typed stays, and is saved after `keep`. */
  readonly conflict?: Conflict | undefined;
  /** Why it is not saved: what the browser finds wrong with it, a validator, or the server. */
  readonly error?: string | undefined;
  /** Who else has changed what the field shows, and when, in milliseconds; only of changes since the form is open. */
  readonly by?: string | null | undefined;
  readonly at?: number | undefined;
}

export interface Conflict {
  readonly mine: unknown;
  /** Undefined if the field, or the event, was removed. */
  readonly theirs: unknown;
  readonly by?: string | null | undefined;
  readonly at?: number | undefined;
}

export interface FormState {
  /** Of the event; `error` says why it is denied. */
  readonly status: EventState["status"];
  readonly error?: BrokerError | undefined;
  /** Who has written the newest version, and when it was published, in milliseconds. */
  readonly by?: string | null | undefined;
  readonly at?: number | undefined;
  /** Everything that was typed is stored. */
  readonly saved: boolean;
  /** A write is under way, or waits until the server can be reached, or until somebody logs in. */
  readonly saving: boolean;
  /** Why the server has refused what was typed. The text stays, and is sent again with the next change, or by `save`. */
  readonly refused?: BrokerError | undefined;
  /** The state of each field, by its path. A field that has none of these properties is left out. */
  readonly fields: { readonly [path: string]: FieldState };
  readonly undoable: boolean;
  readonly redoable: boolean;
  /** Who else has the form open, with the option `others`. */
  readonly others: readonly string[];
}

/** A form whose controls follow an event, and whose changes are saved field by field. */
export interface Form {
  readonly state: Store<FormState>;
  /** Saves what is typed now. Returns the state once it is stored or refused; while the server is away, it waits. */
  save(): Promise<FormState>;
  /** Takes back what was done in a field last, in this form. If somebody else has changed the field since, this is a conflict. */
  undo(): void;
  redo(): void;
  /** Ends a conflict: what is typed here is saved. */
  keep(path: string): void;
  /** Ends a conflict: the field shows what somebody else has written. */
  take(path: string): void;
  /** Saves what is typed, and ends. What is refused after that, or turns out to be in conflict, is in the outbox. */
  close(): void;
}

/** A write in the outbox. */
export interface Outgoing {
  readonly uuid: string;
  readonly event: string;
  readonly data: unknown;
  /** When it is to be published, in milliseconds; only if a time was given. */
  readonly at?: number;
  readonly user: string | null;
  readonly state: "queued" | "sending" | "refused";
  readonly tries: number;
  readonly error?: BrokerError;
}

export interface Outbox extends Store<readonly Outgoing[]> {
  /** Sends a refused write again, under a new uuid. */
  retry(uuid: string): void;
  /** Forgets a write that was refused, or that is not sent yet. */
  discard(uuid: string): void;
}

export interface User {
  readonly username: string;
  /** The session has ended: what is public is still live, and writes wait until this user logs in again. */
  readonly expired?: true;
}

export interface LogInOptions {
  /** Gives what was written before the login, without a user, to this user. */
  adopt?: boolean;
}

export interface LogOutOptions {
  /** What happens to writes that are not sent yet: without either, `logOut` is rejected if there are any. */
  discard?: boolean;
  keep?: boolean;
}

/** `connecting` only at first; `reconnecting` after an interruption of a second, `offline` after ten. */
export type Status = "idle" | "connecting" | "live" | "reconnecting" | "offline" | "denied";

/** A validator of zod, valibot, arktype or others, as they all offer it (https://standardschema.dev). */
export interface StandardSchema {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult | Promise<StandardResult>;
  };
}
export type StandardResult =
  | { readonly value: unknown; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string; readonly path?: readonly unknown[] | undefined }[] };

export interface StorageLike {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export interface Options {
  /** A token, or a function that returns the current one, for pages with a login of their own. The function is called
   * before each request, and once a minute; if the token is another user's, nothing of the former user is shown any more. */
  token?: string | (() => string | null | Promise<string | null>);
  /** Where the token of a login is kept; `local` is the default. */
  storage?: "local" | "session" | "memory" | StorageLike;
  fetch?: typeof fetch;
  /** Validators by the name of the event, or by a prefix that ends with `*`; the first that fits counts. What they refuse
   * is not written, and is in the outbox with an error of the type `invalid`; on `localhost`, what comes is validated
   * too, and the console says what they refuse. */
  validate?: { [filter: string]: StandardSchema };
  /** Prints every frame of the stream with `log.debug`. */
  log?: Pick<Console, "debug">;
  /** What `preload` has read on the server that has rendered the page. It is shown at once, and the stream resumes from
   * its id if the same user reads it here. */
  state?: Preloaded | undefined;
}

/** The state of some events, as plain JSON. */
export interface Preloaded {
  /** The id up to which the state is complete. */
  readonly id: string;
  /** Who has read it. */
  readonly user: User | null;
  /** The events, and prefixes that end with `*`, of which this is the whole state. */
  readonly names: readonly string[];
  readonly state: readonly EventRecord[];
  /** The events that have a number with more digits than JavaScript can express. */
  readonly inexact: readonly string[];
}

export interface Broker {
  readonly url: string;
  /** The same name gives the same object. */
  event<Name extends string>(name: Name): Event<Data<Name>>;
  event<T>(name: string): Event<T>;
  events<Prefix extends string>(prefix: Prefix, options?: CollectionOptions): Collection<DataOf<Prefix>>;
  events<T>(prefix: string, options?: CollectionOptions): Collection<T>;
  /** Binds the controls in an element to an event: the name of each control is the path of a field in the event's data. */
  form(name: string, element: HTMLElement, options?: FormOptions): Form;
  /** Stores all writes that `write` makes, or none of them. */
  batch(write: () => void): Promise<EventRecord[]>;
  readonly status: Store<Status>;
  /** The id up to which the state is complete; empty as long as there is none. */
  readonly position: string;
  readonly outbox: Outbox;
  readonly schedule: Schedule;
  readonly user: Store<User | null>;
  signUp(username: string, password: string, options?: LogInOptions & { info?: unknown }): Promise<User>;
  logIn(username: string, password: string, options?: LogInOptions): Promise<User>;
  logOut(options?: LogOutOptions): Promise<void>;
  /** The token for requests of your own, renewed if it will expire soon; null if nobody is logged in. Give one that the
   * server has refused with 401, and you get another one, if there is another one. */
  token(refused?: string | null): Promise<string | null>;
  /** The server's clock, in milliseconds. */
  now(): number;
  close(): void;
}

/** `url` is where the server is; by default, it is the one that served `/broker.js`, or the one of the page. */
export function createBroker(url?: string | URL, options?: Options): Broker;
