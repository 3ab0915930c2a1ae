// @ts-check
import compression from "compression";
import express from "express";
import { createProxyMiddleware } from "http-proxy-middleware";

const app = express();
app.use(compression()); // leaves streams alone, as Broker asks for it
app.use(
  "/live", // the page asks for /live/events, /live/insert and so on
  createProxyMiddleware({
    target: "http://127.0.0.1:8080",
    on: {
      // A stream that ends in the middle, because Broker does: version 3 by itself leaves the page waiting for ever.
      proxyRes(stream, _request, answer) {
        stream.on("close", () => stream.complete || answer.destroy());
      },
      // While Broker is down. An EventSource gives up for good at anything but 200.
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
