const list = document.querySelector("#players");
const template = document.querySelector("#player");
const status = document.querySelector("#status");

async function signIn(playerId) {
  const response = await fetch("/sessions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ playerId }),
  });
  if (response.ok) location.assign(`/players/${playerId}/`);
  else status.textContent = (await response.json()).error;
}

async function load() {
  const response = await fetch("/players");
  const body = await response.json();
  if (!response.ok) {
    status.textContent = body.error;
    setTimeout(load, 2_000);
    return;
  }
  status.textContent = "";
  for (const { id, name, tokens } of body) {
    const item = template.content.cloneNode(true);
    item.querySelector(".name").textContent = name;
    item.querySelector(".quiet").textContent = tokens === 0 ? "" : tokens === 1 ? "1 token" : `${tokens} tokens`;
    item.querySelector("button").addEventListener("click", () => signIn(id));
    list.append(item);
  }
}

await load();
