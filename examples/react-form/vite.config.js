import react from "@vitejs/plugin-react";

// While you edit, Vite serves the page, and passes the calls on to a Broker of its own: `make` in the repository.
const calls = "^/(events|insert|cancel|collections|pending|snapshot|users|login|token|logout)(/|\\?|$)";

export default {
  plugins: [react()],
  server: {
    fs: { allow: [".."] }, // the style sheet is that of examples/plain-form
    proxy: { [calls]: process.env.BROKER_URL ?? "http://127.0.0.1:8080" },
  },
};
