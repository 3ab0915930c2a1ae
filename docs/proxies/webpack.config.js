// @ts-check
/** @type {import("webpack").Configuration & { devServer: import("webpack-dev-server").Configuration }} */
export default {
  mode: "development",
  entry: "./page.js",
  devServer: {
    proxy: [
      {
        // The page requests /live/events, /live/insert and so on.
        context: ["/live"],
        target: "http://127.0.0.1:8080",
        pathRewrite: { "^/live": "" },
        // When Broker is killed, a stream ends in the middle. Without this function, version 5 leaves the page's
        // connection open, and the page does not notice the end.
        onProxyRes(stream, _request, answer) {
          stream.on("close", () => stream.complete || answer.destroy());
        },
        // This function is called while Broker is down. An EventSource never reconnects after any status except 200, so
        // it gets 200 here.
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
