// Server-sent events: what the page hears without asking.

import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { type HeistClient, HeistError, type Notification } from "heist-client";
import { notificationView } from "./views.ts";

const MOST_STREAMS = 500;
/** Proxies close connections that are silent for long. */
const HEARTBEAT_MS = 15_000;
/** A browser that does not read so much of its stream is disconnected. */
const MAX_UNREAD_BYTES = 100_000;

/** The streams of all pages. */
export class Events {
  readonly #client: HeistClient;
  readonly #pages = new Set<ServerResponse>();
  readonly #stopping = new AbortController();
  #points: Promise<void> | undefined;

  constructor(client: HeistClient) {
    this.#client = client;
  }

  /** Tells all pages when points have changed. One stream of the service is enough for all of them. */
  start(): void {
    this.#points = this.#tellOfPoints();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const page of this.#pages) page.end();
    await this.#points;
  }

  get isFull(): boolean {
    return this.#pages.size >= MOST_STREAMS;
  }

  /** Serves the events of a player until the browser leaves. */
  async serve(request: IncomingMessage, response: ServerResponse, playerId: number): Promise<void> {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write("retry: 1000\n\n");
    this.#pages.add(response);
    const left = new AbortController();
    response.on("close", () => left.abort());
    const heartbeat = setInterval(() => this.#send(response, ": still here\n\n"), HEARTBEAT_MS);
    try {
      const after = lastEventId(request) ?? (await this.#newestId(playerId));
      // The page loads what there is when it hears this: whatever comes later is told.
      this.#send(response, `id: ${after}\nevent: ready\ndata: {}\n\n`);
      for await (const notification of this.#client.notifications(playerId, { after, signal: left.signal })) {
        this.#send(response, notificationEvent(notification));
      }
    } catch (error) {
      if (!(error instanceof HeistError)) throw error;
      console.error(error.message);
    } finally {
      clearInterval(heartbeat);
      this.#pages.delete(response);
      response.end();
    }
  }

  async #newestId(playerId: number): Promise<bigint> {
    const { notifications } = await this.#client.listNotifications({ userId: playerId, pageSize: 1 });
    return notifications[0]?.id ?? 0n;
  }

  async #tellOfPoints(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        for await (const _ of this.#client.points({ signal })) {
          for (const page of this.#pages) this.#send(page, "event: points\ndata: {}\n\n");
        }
      } catch (error) {
        // Such as a token without the scope: the pages go on without, and load when they are told to.
        console.error(error instanceof Error ? error.message : error);
        await sleep(10_000, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  #send(page: ServerResponse, text: string): void {
    if (page.writableLength > MAX_UNREAD_BYTES) page.destroy();
    else page.write(text);
  }
}

/** The event that the browser had last: it says so by itself when it connects again. */
function lastEventId(request: IncomingMessage): bigint | undefined {
  const text = request.headers["last-event-id"];
  return typeof text === "string" && /^\d{1,18}$/.test(text) ? BigInt(text) : undefined;
}

function notificationEvent(notification: Notification): string {
  const view = notificationView(notification);
  return `id: ${view.id}\nevent: notification\ndata: ${JSON.stringify(view)}\n\n`;
}
