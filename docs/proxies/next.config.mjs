// @ts-check
/** @type {import("next").NextConfig} */
export default {
  async rewrites() {
    // The page requests /live/events, /live/insert and so on.
    return [{ source: "/live/:path*", destination: "http://127.0.0.1:8080/:path*" }];
  },
};
