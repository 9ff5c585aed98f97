import { createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, RequestListener } from "node:http";

/** Longest body that is read, in bytes. A mail program sends `List-Unsubscribe=One-Click`. */
const MAX_BODY_BYTES = 1024;

/** Whether `proof` is the HMAC-SHA256 of the player's id with the key, in hexadecimal. */
export function isSigned(key: string, player: string, proof: string): boolean {
  const expected = createHmac("sha256", key).update(player).digest();
  const given = Buffer.from(proof, "hex");
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/**
 * The page of `HEIST_EMAIL_UNSUBSCRIBE_URL`, such as
 * `https://app.example.com/unsubscribe?player={user_id}&proof={signature}`.
 *
 * `POST` unsubscribes the player, without a login (RFC 8058). `GET` shows a page with a button that
 * sends the same `POST`, because mail scanners follow links.
 */
export function unsubscribePage(
  key: string,
  unsubscribe: (player: number) => Promise<void>,
): RequestListener {
  return async (request, response) => {
    const end = (status: number, text: string) => {
      response.writeHead(status, { "content-type": "text/html; charset=utf-8" }).end(text);
    };
    const { searchParams } = new URL(request.url ?? "/", "http://localhost");
    const player = searchParams.get("player") ?? "";
    if (!/^[1-9][0-9]{0,9}$/.test(player) || !isSigned(key, player, searchParams.get("proof") ?? "")) {
      return end(403, "This link is not valid.");
    }
    if (request.method === "GET") {
      return end(200, `<form method="post"><input type="hidden" name="List-Unsubscribe"
        value="One-Click"><button>Unsubscribe</button></form>`);
    }
    const form = new URLSearchParams(await bodyOf(request));
    if (request.method !== "POST" || form.get("List-Unsubscribe") !== "One-Click") {
      return end(400, "This request is not valid.");
    }
    try {
      await unsubscribe(Number(player));
    } catch (error) {
      console.error("unsubscribing failed", error);
      return end(503, "Please try again later.");
    }
    end(200, "You will receive no more e-mails.");
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of request) {
    body += chunk;
    if (body.length > MAX_BODY_BYTES) return "";
  }
  return body;
}
