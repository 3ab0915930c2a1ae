// @ts-check
/** @type {import("webpack").Configuration & { devServer: import("webpack-dev-server").Configuration }} */
export default {
  mode: "development",
  entry: "./page.js",
  devServer: {
    proxy: [
      {
        // The page asks for /live/events, /live/insert and so on.
        context: ["/live"],
        target: "http://127.0.0.1:8080",
        pathRewrite: { "^/live": "" },
        // A stream that ends in the middle, because Broker does: version 5 by itself leaves the page waiting for ever.
        onProxyRes(stream, _request, answer) {
          stream.on("close", () => stream.complete || answer.destroy());
        },
        // While Broker is down: no answer at all. An EventSource gives up for good at a 504.
        onError: (_error, _request, answer) => answer.destroy(),
      },
    ],
  },
};
