// @ts-check
/** @type {import("vite").UserConfig} */
export default {
  server: {
    proxy: {
      // The page asks for /live/events, /live/insert and so on.
      "/live": {
        target: "http://127.0.0.1:8080",
        rewrite: (path) => path.slice("/live".length),
        configure(proxy) {
          // A stream that ends in the middle, because Broker does: Vite by itself leaves the page waiting for ever.
          proxy.on("proxyRes", (stream, _request, answer) => {
            stream.on("close", () => stream.complete || answer.destroy());
          });
          // While Broker is down. An EventSource gives up for good at anything but 200; others get Vite's 502.
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
