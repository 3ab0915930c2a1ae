// @ts-check
/** @type {import("vite").UserConfig} */
export default {
  server: {
    proxy: {
      // The page requests /live/events, /live/insert and so on.
      "/live": {
        target: "http://127.0.0.1:8080",
        rewrite: (path) => path.slice("/live".length),
        configure(proxy) {
          // When Broker is killed, a stream ends in the middle. Without this handler, Vite leaves the page's connection
          // open, and the page does not notice the end.
          proxy.on("proxyRes", (stream, _request, answer) => {
            stream.on("close", () => stream.complete || answer.destroy());
          });
          // Vite calls this handler while Broker is down. An EventSource never reconnects after any status except 200,
          // so it gets 200 here. Other requests get Vite's 502.
          proxy.on("error", (_error, request, answer) => {
            if (!("writeHead" in answer) || answer.headersSent) answer.destroy();
            else if (request.headers.accept === "text/event-stream") {
              answer.writeHead(200, { "Content-Type": "text/event-stream" });
              answer.write("retry: 2000\n", () => answer.destroy());
            }
          });
        },
      },
    },
  },
};
