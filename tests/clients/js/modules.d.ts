// What is used of two libraries that come without types.

interface Source {
  addEventListener(name: string, listener: (event: any) => void): void;
  onerror: ((event: any) => void) | null;
}

declare module "eventsource-2" {
  const EventSource: new (url: string, options?: { headers?: Record<string, string> }) => Source;
  export default EventSource;
}

declare module "launchdarkly-eventsource" {
  export const EventSource: new (url: string) => Source;
}
