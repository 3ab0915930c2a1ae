// @ts-check
/** @type {import("vite").UserConfig} */
export default {
  server: {
    proxy: { "/live": { target: "http://127.0.0.1:8080", rewrite: (path) => path.slice("/live".length) } },
  },
};
