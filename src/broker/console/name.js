// The grammar of the names of events (names.py).

const NAME_BYTES_MAX = 255;

/** What is wrong with a name; empty if nothing is. @param {string} name */
export function nameProblem(name) {
  const bytes = new TextEncoder().encode(name).length;
  if (!name) return "Give the event a name.";
  if (/[\x00-\x1f\x7f-\x9f]/.test(name) || /\p{Cs}/u.test(name)) return "A name has no control characters. Take them out.";
  if (bytes > NAME_BYTES_MAX) return `This name has ${bytes} bytes of UTF-8; at most ${NAME_BYTES_MAX} are allowed.`;
  if (name.startsWith("$")) return "Names that begin with $ are reserved for Broker’s own events.";
  if (name.includes("*")) return "A name has no *, which stands for any text in filters.";
  if (name === "error" || name === "open") return `The name ${name} would call a handler of EventSource’s own. Choose another one.`;
  if (name.split("/").some((part) => part === "." || part === "..")) return "No part of a name between slashes may be . or .. .";
  return "";
}
