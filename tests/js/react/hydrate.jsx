// The page of app.jsx in the browser.

import { hydrateRoot } from "react-dom/client";
import { App } from "./app.jsx";

window.streams = [];
const fetch = window.fetch;
window.fetch = (url, options) => {
  if (String(url).endsWith("/events")) window.streams.push(JSON.parse(options.body));
  return fetch(url, options);
};
const main = document.querySelector("main");
window.first = main.innerText;
hydrateRoot(document.getElementById("root"), <App state={window.state} />);
// React has taken what the server has rendered, and has not made it anew.
window.kept = () => document.querySelector("main") === main;
