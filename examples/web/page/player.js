// The page of a player. The server has the texts; this shows them, and asks again when it is told.

const element = (id) => document.querySelector(`#${id}`);

/** The board is loaded at most so often, however many heists there are. */
const LOAD_PAUSE_MS = 2_000;

const NO_CONNECTION = "The page has no connection. It tries again.";

/** The request id of each robbery that was begun and is not done, by victim. */
const intents = new Map();
let newestId = "0";

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    ...(body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
  });
  if (response.status === 401) location.reload();
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/** Runs what a click or an event asks for, and says where it failed. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    // fetch throws a TypeError where it has no connection.
    say(error instanceof TypeError ? NO_CONNECTION : error.message);
    loadSoon();
  }
}

const say = (text) => (element("status").textContent = text);

function timeOf(text) {
  return new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

// The board and the player's own figures.

let loading = false;
let isStale = false;

function loadSoon() {
  isStale = true;
  if (loading) return;
  loading = true;
  isStale = false;
  attempt(loadBoard);
  setTimeout(() => {
    loading = false;
    if (isStale) loadSoon();
  }, LOAD_PAUSE_MS);
}

async function loadBoard() {
  const [{ me, entries }, heists] = await Promise.all([call("GET", "board"), call("GET", "heists")]);
  if (me) {
    document.title = `Heist: ${me.name}`;
    element("name").textContent = me.name;
    element("rank").textContent = me.rank;
    element("points").textContent = me.points;
    element("tokens").textContent = me.tokens;
  }
  // A new row would take the focus away from a button: rows of players who stay are kept.
  const rows = new Map([...element("board").children].map((row) => [row.dataset.id, row]));
  const focused = document.activeElement;
  element("board").replaceChildren(...entries.map((entry) => place(entry, me, rows.get(String(entry.id)))));
  if (focused instanceof HTMLElement && focused.isConnected) focused.focus();
  element("no-history").hidden = heists.length > 0;
  element("history").replaceChildren(
    ...heists.map(({ won, other, points, time }) =>
      item(won ? `+${points}` : `−${points}`, won ? `from ${other}` : `to ${other}`, time),
    ),
  );
}

function place(entry, me, known) {
  const row = known ?? element("place").content.cloneNode(true).firstElementChild;
  row.dataset.id = entry.id;
  row.classList.toggle("mine", entry.id === me?.id);
  for (const name of ["rank", "name", "points", "tokens"]) row.querySelector(`.${name}`).textContent = entry[name];
  const action = row.querySelector(".action");
  if (!entry.canBeRobbed) {
    action.textContent = entry.id === me?.id ? "You" : (entry.obstacle ?? "");
    return row;
  }
  let button = action.querySelector("button");
  if (!button) {
    button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => attempt(() => rob(entry.id, entry.name, button)));
    action.replaceChildren(button);
  }
  button.textContent = `Rob ${entry.stake}`;
  button.setAttribute("aria-label", `Rob ${entry.name} of ${entry.stake} points`);
  return row;
}

async function rob(victimId, victimName, button) {
  // One intent, however often the player clicks until it is done.
  if (!intents.has(victimId)) intents.set(victimId, crypto.randomUUID());
  button.disabled = true;
  try {
    const { done, message } = await call("POST", "heists", { victimId, victimName, requestId: intents.get(victimId) });
    if (done) intents.delete(victimId);
    say(message);
  } finally {
    button.disabled = false;
  }
  loadSoon();
}

// Notifications.

function item(title, text, time, unread = false) {
  const entry = element("entry").content.cloneNode(true).firstElementChild;
  entry.classList.toggle("unread", unread);
  entry.querySelector(".title").textContent = title;
  entry.querySelector(".text").textContent = text;
  const when = entry.querySelector("time");
  when.dateTime = time;
  when.textContent = timeOf(time);
  return entry;
}

async function loadNotifications() {
  const { unread, notifications } = await call("GET", "notifications");
  element("unread").textContent = unread;
  element("no-notifications").hidden = notifications.length > 0;
  element("notifications").replaceChildren(
    ...notifications.map(({ title, message, time, read }) => item(title, message, time, !read)),
  );
  newestId = notifications[0]?.id ?? newestId;
}

/** Shows the list, and marks what it shows as read. */
async function openInbox() {
  const isOpen = element("inbox").hidden;
  element("inbox").hidden = !isOpen;
  element("bell").setAttribute("aria-expanded", String(isOpen));
  if (!isOpen) return;
  await loadNotifications();
  if (newestId !== "0") {
    const { unread } = await call("POST", "notifications/read", { upTo: newestId });
    element("unread").textContent = unread;
  }
}

// Preferences.

function showPreferences({ email }) {
  for (const choice of element("preferences").elements) choice.checked = choice.value === email;
}

async function choose(email) {
  try {
    showPreferences(await call("POST", "preferences", { email }));
    say("Your choice is saved.");
  } catch (error) {
    // What is shown has to be what holds.
    attempt(loadPreferences);
    throw error;
  }
}

const loadPreferences = async () => showPreferences(await call("GET", "preferences"));

function listen() {
  const events = new EventSource("events");
  // Also after every break: what is shown may be old.
  events.addEventListener("ready", () => {
    if (element("status").textContent === NO_CONNECTION) say("");
    loadSoon();
    attempt(loadNotifications);
    attempt(loadPreferences);
  });
  events.addEventListener("points", loadSoon);
  events.addEventListener("notification", ({ data }) => {
    const { title, message } = JSON.parse(data);
    element("news").textContent = `${title} ${message}`;
    loadSoon();
    attempt(loadNotifications);
  });
  events.addEventListener("error", () => {
    say(NO_CONNECTION);
    // A browser does not try again where the server answered with an error.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2_000);
  });
}

element("bell").addEventListener("click", () => attempt(openInbox));
element("leave").addEventListener("click", () =>
  attempt(async () => {
    await call("DELETE", "session");
    location.assign("/");
  }),
);
element("preferences").addEventListener("change", ({ target }) => attempt(() => choose(target.value)));
listen();
