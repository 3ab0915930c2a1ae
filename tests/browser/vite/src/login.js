import { go, heading, post } from "./main.js";

export function show(main) {
  main.append(heading("Log in"));
  main.insertAdjacentHTML(
    "beforeend",
    `<form><input name="username" aria-label="name"><input name="password" type="password" aria-label="password">
     <button>Sign up</button></form>`,
  );
  main.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { jwt } = await post("/users", Object.fromEntries(new FormData(event.target)));
    sessionStorage.setItem("token", jwt);
    await go("/users");
  });
}
