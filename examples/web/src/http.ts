// HTTP, as little of it as the page needs.

import type { IncomingMessage, ServerResponse } from "node:http";

const MAX_BODY_BYTES = 10_000;

/** What the caller did wrong, or why the page gets no answer. */
export class HttpError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The JSON object of the body. Only the page's own scripts can send this content type. */
export async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  if (request.headers["content-type"] !== "application/json") throw new HttpError(415, "The body has to be JSON.");
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  if (bytes > MAX_BODY_BYTES) throw new HttpError(413, "The body is too large.");
  try {
    const body: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
    if (typeof body === "object" && body !== null) return body as Record<string, unknown>;
  } catch {
    // Answered below.
  }
  throw new HttpError(400, "The body is not a JSON object.");
}

export function playerIdIn(value: unknown): number {
  if (typeof value === "number" && Number.isInteger(value) && value > 0 && value < 2 ** 31) return value;
  throw new HttpError(400, "There is no such player.");
}

export function sendJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  // Ids of heists and notifications are 64-bit numbers, which JavaScript reads from texts.
  response.end(JSON.stringify(body, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value)));
}

export function cookie(request: IncomingMessage, name: string): string | undefined {
  for (const pair of (request.headers.cookie ?? "").split("; ")) {
    if (pair.startsWith(`${name}=`)) return pair.slice(name.length + 1);
  }
  return undefined;
}
