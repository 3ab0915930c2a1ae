import { useSyncExternalStore } from "react";

const formats = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const UNITS = [["day", 86_400_000], ["hour", 3_600_000], ["minute", 60_000]] as const;

/** How long ago a time was, such as “5 min. ago”. */
export function ago(time: number | undefined, now: number): string {
  if (time === undefined) return "";
  for (const [unit, length] of UNITS) if (now - time >= length) return formats.format(-Math.floor((now - time) / length), unit);
  return "just now";
}

let now = Date.now();

/** The time, which goes on by half minutes. */
export function useNow() {
  return useSyncExternalStore(
    (run) => {
      const timer = setInterval(() => ((now = Date.now()), run()), 30_000);
      return () => clearInterval(timer);
    },
    () => now,
  );
}
