// A router as those of the libraries: an address is a view, a link changes the address without a request, and a reload
// asks the server for the address. Some addresses are also calls of Broker's API.
import "./style.css";

const views = {
  "/": async (main) => main.append(heading("Home")),
  "/login": async (main) => (await import("./login.js")).show(main),
  "/users": async (main) => (await import("./users.js")).show(main),
  "/events": async (main) => (await import("./events.js")).show(main),
};

export function heading(text) {
  const made = document.createElement("h1");
  made.textContent = text;
  return made;
}

export async function post(path, body) {
  const token = sessionStorage.getItem("token");
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const result = await response.json();
  if (!response.ok) throw new Error(result.detail);
  return result;
}

export async function go(path) {
  if (path !== location.pathname) history.pushState(null, "", path);
  const main = document.createElement("main");
  document.querySelector("main").replaceWith(main);
  await (views[path] ?? views["/"])(main);
}

document.querySelector("nav").addEventListener("click", (event) => {
  if (!(event.target instanceof HTMLAnchorElement)) return;
  event.preventDefault();
  go(event.target.pathname);
});
addEventListener("popstate", () => go(location.pathname));
go(location.pathname);
