// Broker in React 18 and 19, written by hand. Nothing is opened while React renders: a component watches what it shows
// from when it is on the page, and all components share one stream.

import type { ReactElement, ReactNode, RefCallback } from "react";
import type { Broker, Collection, CollectionOptions, Data, DataOf, EventState, FieldState, Form, FormOptions, FormState, Pending, Preloaded, Status, Store, User } from "./types.js";

/** Optional. Without it, components use a client of the page's own origin, which is made when the first of them needs it;
 * with `url`, one of that address. All that give the same address share one client.
 *
 * `state` is what `preload` has read (zerocode-broker/preload): the server renders it, the page begins with it. If you
 * make the client yourself, give it the same `state`. */
export function BrokerProvider(props: {
  broker?: Broker | undefined;
  state?: Preloaded | undefined;
  url?: string | undefined;
  children?: ReactNode;
}): ReactElement;

export function useBroker(): Broker;

/** The value of an event: undefined, or the fallback, if it is not there, or not known yet. `null` watches nothing. */
export function useEvent<Name extends string>(name: Name | null): Data<Name> | undefined;
export function useEvent<Name extends string>(name: Name | null, fallback: Data<Name>): Data<Name>;
export function useEvent<T>(name: string | null): T | undefined;
export function useEvent<T>(name: string | null, fallback: NoInfer<T>): T;

/** Whether it is loading, live, stale or denied, how many writes are not confirmed yet, when it was written and by whom. */
export function useEventState(name: string): EventState;
export function useEventState(name: string | null): EventState | undefined;

export interface EventsOptions<T> extends CollectionOptions {
  /** For long lists, give a function that is the same at each render: then the list is not sorted anew. */
  sort?: ((a: [string, T], b: [string, T]) => number) | undefined;
  limit?: number | undefined;
}

/** The events whose names begin with a prefix, as `[key, data]`, and the collection, which writes. */
export function useEvents<Prefix extends string>(
  prefix: Prefix,
  options?: EventsOptions<DataOf<Prefix>>,
): [rows: [string, DataOf<Prefix>][], collection: Collection<DataOf<Prefix>>];
export function useEvents<Prefix extends string>(
  prefix: Prefix | null,
  options?: EventsOptions<DataOf<Prefix>>,
): [rows: [string, DataOf<Prefix>][], collection: Collection<DataOf<Prefix>> | null];
export function useEvents<T>(
  prefix: string,
  options?: EventsOptions<T>,
): [rows: [string, T][], collection: Collection<T>];
export function useEvents<T>(
  prefix: string | null,
  options?: EventsOptions<T>,
): [rows: [string, T][], collection: Collection<T> | null];

/** The pending writes of the events that begin with a prefix, or of all, by due time. */
export function useSchedule(prefix?: string): readonly Pending[];

export function useStatus(): Status;
export function useUser(): User | null;

/** Anything that has `get` and `subscribe`: an event, a collection, a list, the outbox. */
export function useStore<T>(store: Store<T>): T;

/** The value of an event or a collection. The component is suspended until it is known for the first time: the nearest
 * `<Suspense>` shows its fallback. If this user may not read it, the error is thrown, for an error boundary. */
export function useReady<T>(handle: Store<T> & { readonly ready: Promise<T>; readonly state: Store<{ status: EventState["status"] }> }): T;

/** What `useEventForm` returns. `field` returns the state of a field, by its path. */
export type EventForm = { readonly ref: RefCallback<HTMLElement>; field(path: string): Partial<FieldState> } & FormState &
  Omit<Form, "state">;

/** A form whose controls follow an event, and whose changes are saved: give `ref` to the form. Its controls are uncontrolled:
 * they have a `name`, which is the path of a field, and no `value`. `null` binds nothing. */
export function useEventForm(name: string | null, options?: FormOptions): EventForm;

/** Shows its children to somebody who is logged in, also when the session has expired, so that no input is lost. */
export function SignedIn(props: { children?: ReactNode }): ReactElement;
/** Shows its children to somebody who has to log in: for the first time, or because the session has expired. */
export function SignedOut(props: { children?: ReactNode }): ReactElement;
