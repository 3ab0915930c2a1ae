import { heading } from "./main.js";

export function show(main) {
  const list = document.createElement("ul");
  main.append(heading("Events"), list);
  const source = new EventSource("/events?event=user");
  source.addEventListener("user", (event) => {
    const item = document.createElement("li");
    item.textContent = JSON.parse(event.data).name;
    list.append(item);
  });
}
