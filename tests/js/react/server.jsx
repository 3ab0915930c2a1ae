// Renders one page for each token, all of them at once: `node server.cjs ADDRESS FOLDER NAME=TOKEN…`.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { PassThrough } from "node:stream";
import { renderToPipeableStream } from "react-dom/server";
import { preload } from "zerocode-broker/preload";
import { App } from "./app.jsx";

const [url, folder, ...readers] = process.argv.slice(2);
const states = await Promise.all(
  readers.map((reader) => {
    const [name, token] = reader.split("=");
    return preload(url, ["sale", `inbox/${name}/*`], { token });
  }),
);
// No page is complete before all of them have begun.
const gate = { open: false };
gate.promise = new Promise((resolve) => (gate.resolve = resolve));
const pages = states.map(async (state, number) => {
  const body = new PassThrough();
  const stream = renderToPipeableStream(<App state={state} gate={gate} />, {
    onAllReady: () => stream.pipe(body),
    // What was not preloaded is rendered in the page, and React reports that.
    onError: (error) => console.log(error.message),
  });
  const json = JSON.stringify(state).replaceAll("<", "\\u003c");
  const page = `<!doctype html><meta charset="utf-8"><title>a page</title><link rel="icon" href="data:,"><div id="root">${await text(body)}</div>
<script>window.state = ${json}</script><script type="module" src="/hydrate.js"></script>`;
  writeFileSync(join(folder, `${readers[number].split("=")[0]}.html`), page);
});
await new Promise((resolve) => setImmediate(resolve));
gate.open = true;
gate.resolve();
await Promise.all(pages);
