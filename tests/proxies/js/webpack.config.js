// @ts-check
/** @type {import("webpack").Configuration & { devServer: import("webpack-dev-server").Configuration }} */
export default {
  mode: "development",
  entry: "./page.js",
  devServer: {
    proxy: [{ context: ["/live"], target: "http://127.0.0.1:8080", pathRewrite: { "^/live": "" } }],
  },
};
