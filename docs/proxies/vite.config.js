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
          // While Broker is down: no answer at all. An EventSource gives up for good at a 502.
          proxy.on("error", (_error, _request, answer) => answer.destroy());
        },
      },
    },
  },
};
