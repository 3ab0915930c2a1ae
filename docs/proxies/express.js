// @ts-check
import compression from "compression";
import express from "express";
import { createProxyMiddleware } from "http-proxy-middleware";

const app = express();
app.use(compression()); // does not compress streams, because Broker sends them with no-transform
app.use(
  "/live", // the page requests /live/events, /live/insert and so on
  createProxyMiddleware({
    target: "http://127.0.0.1:8080",
    on: {
      // When Broker is killed, a stream ends in the middle. Without this function, version 3 leaves the page's
      // connection open, and the page does not notice the end.
      proxyRes(stream, _request, answer) {
        stream.on("close", () => stream.complete || answer.destroy());
      },
      // This function is called while Broker is down. An EventSource never reconnects after any status except 200, so
      // it gets 200 here.
      error(_error, request, answer) {
        if (!("writeHead" in answer) || answer.headersSent) answer.destroy();
        else if (request.headers.accept === "text/event-stream") {
          answer.setHeader("Access-Control-Allow-Origin", "*");
          answer.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-transform" });
          answer.write("retry: 2000\n", () => answer.destroy());
        } else answer.writeHead(502).end();
      },
    },
  }),
);
app.listen(3000, "127.0.0.1");
