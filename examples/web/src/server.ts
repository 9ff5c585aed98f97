// The server of the web team: it knows who is signed in, and calls the heist service for them. No
// browser calls the service.
//
// A session is bound to the path of its player, /players/ID/, so that two windows of one browser can
// be two players.

import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { EmailPreference, type HeistClient, HeistError } from "heist-client";
import type { Events } from "./events.ts";
import { cookie, HttpError, playerIdIn, readJson, sendJson } from "./http.ts";
import { sentenceFor } from "./sentences.ts";
import { Sessions } from "./sessions.ts";
import { entryView, heistView, notificationView } from "./views.ts";

const PLACES = 50;
const LIST_SIZE = 20;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** How the page calls the choices. */
const EMAIL_CHOICES = new Map([
  ["default", EmailPreference.DEFAULT],
  ["immediate", EmailPreference.IMMEDIATE],
  ["digest", EmailPreference.DIGEST],
  ["never", EmailPreference.NEVER],
]);

const file = (name: string, type: string) => ({
  type,
  content: readFileSync(new URL(`../page/${name}`, import.meta.url)),
});
const INDEX = file("index.html", "text/html; charset=utf-8");
const PLAYER = file("player.html", "text/html; charset=utf-8");
const FILES = new Map([
  ["/", INDEX],
  ["/index.js", file("index.js", "text/javascript; charset=utf-8")],
  ["/player.js", file("player.js", "text/javascript; charset=utf-8")],
  ["/style.css", file("style.css", "text/css; charset=utf-8")],
]);

interface Visit {
  request: IncomingMessage;
  response: ServerResponse;
  playerId: number;
}

export function createWebServer(client: HeistClient, events: Events): Server {
  const sessions = new Sessions();

  /** What a signed-in player may ask for, below /players/ID. */
  const routes = new Map<string, (visit: Visit) => unknown>([
    ["GET /board", ({ playerId }) => board(client, playerId)],
    ["POST /heists", (visit) => rob(client, visit)],
    ["GET /heists", ({ playerId }) => history(client, playerId)],
    ["GET /notifications", ({ playerId }) => notifications(client, playerId)],
    ["POST /notifications/read", (visit) => markRead(client, visit)],
    ["GET /preferences", ({ playerId }) => preferences(client, playerId)],
    ["POST /preferences", (visit) => setPreferences(client, visit)],
  ]);

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    const content = request.method === "GET" ? FILES.get(pathname) : undefined;
    if (content) return sendFile(response, content);
    if (request.method === "GET" && pathname === "/players") return sendJson(response, await players(client));
    if (request.method === "POST" && pathname === "/sessions") return signIn(client, sessions, request, response);

    const match = /^\/players\/(\d{1,10})(\/.*)$/.exec(pathname);
    if (!match) throw new HttpError(404, "There is no such page.");
    const playerId = playerIdIn(Number(match[1]));
    const sessionId = cookie(request, "session");
    if (sessionId === undefined || sessions.playerOf(sessionId) !== playerId) {
      if (match[2] !== "/") throw new HttpError(401, "You are not signed in.");
      return sendFile(response, INDEX);
    }
    if (match[2] === "/") return sendFile(response, PLAYER);
    if (match[2] === "/events" && request.method === "GET") {
      if (events.isFull) throw new HttpError(503, "Too many pages are open.");
      return events.serve(request, response, playerId);
    }
    if (match[2] === "/session" && request.method === "DELETE") {
      sessions.end(sessionId);
      return sendJson(response, {});
    }
    const route = routes.get(`${request.method} ${match[2]}`);
    if (!route) throw new HttpError(404, "There is no such page.");
    sendJson(response, await route({ request, response, playerId }));
  }

  return createServer((request, response) => {
    response.setHeader("content-security-policy", "default-src 'self'; frame-ancestors 'none'");
    response.setHeader("x-content-type-options", "nosniff");
    handle(request, response).catch((error: unknown) => answerError(response, error));
  });
}

function sendFile(response: ServerResponse, { type, content }: typeof INDEX): void {
  response.writeHead(200, { "content-type": type, "cache-control": "no-cache" }).end(content);
}

function answerError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
  } else if (error instanceof HttpError) {
    sendJson(response, { error: error.message }, error.status);
  } else if (error instanceof HeistError) {
    console.error(error.message);
    sendJson(response, { error: sentenceFor(error.refusal, "The player") }, 503);
  } else {
    console.error(error);
    sendJson(response, { error: "Something went wrong." }, 500);
  }
}

/** Whom a visitor can be. A real application has accounts. */
async function players(client: HeistClient) {
  const { entries } = await client.getLeaderboard({ pageSize: PLACES });
  return entries.map(({ userId, name, tokenBalance }) => ({ id: userId, name, tokens: tokenBalance }));
}

async function signIn(
  client: HeistClient,
  sessions: Sessions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const playerId = playerIdIn((await readJson(request))["playerId"]);
  await client.getBalance({ userId: playerId });
  response.setHeader(
    "set-cookie",
    `session=${sessions.begin(playerId)}; Path=/players/${playerId}/; HttpOnly; SameSite=Strict`,
  );
  sendJson(response, {});
}

/** The leaderboard as this player sees it, and the player's own place. */
async function board(client: HeistClient, playerId: number) {
  const { entries, viewer } = await client.getLeaderboard({ viewerId: playerId, pageSize: PLACES });
  const now = Date.now();
  return { me: viewer && entryView(viewer, now), entries: entries.map((entry) => entryView(entry, now)) };
}

async function rob(client: HeistClient, { request, playerId }: Visit) {
  const { victimId, victimName, requestId } = await readJson(request);
  // The page keeps it until the robbery is done, so that clicking again after a failure is safe.
  if (typeof requestId !== "string" || !UUID.test(requestId)) throw new HttpError(400, "requestId has to be a UUID.");
  const name = typeof victimName === "string" ? victimName : "The player";
  try {
    const { heist } = await client.executeHeist(
      { attackerId: playerId, victimId: playerIdIn(victimId), requestId },
      // Whose call it is, for the audit of the service.
      { headers: { "x-forwarded-for": request.socket.remoteAddress ?? "" } },
    );
    return { done: true, message: `You stole ${heist!.pointsStolen} points from ${heist!.victimName}.` };
  } catch (error) {
    if (!(error instanceof HeistError)) throw error;
    return { done: false, message: sentenceFor(error.refusal, name) };
  }
}

async function history(client: HeistClient, playerId: number) {
  const { heists } = await client.listHeists({ userId: playerId, pageSize: LIST_SIZE });
  return heists.map((heist) => heistView(heist, playerId));
}

async function notifications(client: HeistClient, playerId: number) {
  const { notifications, unreadCount } = await client.listNotifications({ userId: playerId, pageSize: LIST_SIZE });
  return { unread: unreadCount, notifications: notifications.map(notificationView) };
}

async function markRead(client: HeistClient, { request, playerId }: Visit) {
  const { upTo } = await readJson(request);
  if (typeof upTo !== "string" || !/^\d{1,18}$/.test(upTo)) throw new HttpError(400, "upTo has to be an id.");
  const { unreadCount } = await client.markNotificationsRead({ userId: playerId, upToId: BigInt(upTo) });
  return { unread: unreadCount };
}

async function preferences(client: HeistClient, playerId: number) {
  const { email } = await client.getPreferences({ userId: playerId });
  return { email: nameOf(email) };
}

async function setPreferences(client: HeistClient, { request, playerId }: Visit) {
  const choice = EMAIL_CHOICES.get(String((await readJson(request))["email"]));
  if (choice === undefined) throw new HttpError(400, "There is no such choice.");
  const { email } = await client.updatePreferences({ userId: playerId, email: choice });
  return { email: nameOf(email) };
}

function nameOf(preference: EmailPreference): string {
  return [...EMAIL_CHOICES].find(([, choice]) => choice === preference)?.[0] ?? "default";
}
