// The frames of a stream, and the order of their ids.

/** @typedef {{id?: string, event?: string, data?: string}} Frame */

const LINE_CHARACTERS_MAX = 64 << 20; // the server's own limit is body_bytes_max, 1 MiB by default

/** Reads the frames that Broker writes: lines end with a line feed, `data` is one line, and a block without data has a
 * meaning of its own, because its id moves the position.
 *
 * @param {(frame: Frame) => void} dispatch
 * @param {(milliseconds: number) => void} retry
 * @param {() => void} [comment]  a heartbeat came
 * @returns {(text: string) => void} takes the text as it arrives, in pieces of any size */
export function createParser(dispatch, retry, comment = () => {}) {
  let rest = "";
  /** @type {Frame} */
  let frame = {};
  return (text) => {
    let start = 0;
    // Only the new piece is searched for a line feed: to search all that has come again and again would take quadratic
    // time for a long line in small pieces.
    for (let end; (end = text.indexOf("\n", start)) >= 0; start = end + 1) {
      const line = rest + text.slice(start, end);
      rest = "";
      if (line === "") {
        dispatch(frame);
        frame = {};
      } else if (line.startsWith("data: ")) frame.data = line.slice(6);
      else if (line.startsWith("id: ")) frame.id = line.slice(4);
      else if (line.startsWith("event: ")) frame.event = line.slice(7);
      else if (line.startsWith("retry: ")) retry(Number(line.slice(7)));
      else if (line === ":") comment();
    }
    rest += text.slice(start);
    if (rest.length > LINE_CHARACTERS_MAX) throw new Error("a line of the stream is too long");
  };
}

/** Reads a stream to its end, or until the signal: what a superseded stream still brings is not for us.
 * @param {Response} response @param {AbortSignal} signal
 * @param {{heard: () => void, frame: (frame: Frame) => void, retry: (milliseconds: number) => void, comment?: () => void}} run */
export async function read(response, signal, { heard, frame, retry, comment }) {
  const reader = response.body?.getReader();
  if (!reader) throw new Error("this platform cannot read a response in pieces; give createBroker a fetch that can");
  const decoder = new TextDecoder();
  const parse = createParser((each) => signal.aborted || frame(each), retry, comment);
  // A frame may abort the stream. Then nothing more is read: in Node 20, `read` never settles if the response ended just
  // before the abort.
  for (let part; !signal.aborted && !(part = await reader.read()).done && !signal.aborted; ) {
    heard();
    parse(decoder.decode(part.value, { stream: true }));
  }
}

/** Of two ids of one log, the larger number is the later one; ids of different logs cannot be compared.
 * @param {string} position @param {string} id */
export function reached(position, id) {
  const [log, number] = split(position);
  const [other, wanted] = split(id);
  return log === other && number >= wanted;
}

/** @param {string} id @returns {[string, number]} */
export function split(id) {
  const at = id.lastIndexOf("-");
  return [id.slice(0, at), Number(id.slice(at + 1))];
}
