import { heading, post } from "./main.js";

export async function show(main) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem("token")}` };
  const { username } = await (await fetch("/users/me", { headers })).json();
  main.append(heading(`Users, as ${username} sees them`));
  main.insertAdjacentHTML("beforeend", `<form><input name="name" aria-label="name"><button>Insert</button></form>`);
  main.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { id } = await post("/insert", { event: "user", data: Object.fromEntries(new FormData(event.target)) });
    const said = document.createElement("output");
    said.textContent = `inserted ${id}`;
    main.append(said);
  });
}
