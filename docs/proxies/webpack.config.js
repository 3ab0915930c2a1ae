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
        // While Broker is down. An EventSource gives up for good at anything but 200.
        onError(_error, request, answer) {
          if (answer.headersSent) answer.destroy();
          else if (request.headers.accept === "text/event-stream") {
            answer.setHeader("Access-Control-Allow-Origin", "*");
            answer.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-transform" });
            answer.write("retry: 2000\n", () => answer.destroy());
          } else answer.writeHead(502).end();
        },
      },
    ],
  },
};
