// The auth service: POST /signup {"name", "email", "referralCode"?}

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import pg from "pg";
import type { Award, Awards } from "./awards.ts";
import { inTransaction } from "./db.ts";

const MAX_BODY_BYTES = 10_000;

interface SignupForm {
  name: string;
  email: string;
  referralCode: string | undefined;
}

export function createSignupServer(pool: pg.Pool, awards: Awards): Server {
  return createServer((request, response) => {
    handle(request, response, pool, awards).catch((error: unknown) => {
      if (error instanceof Refusal) {
        answer(response, error.status, { error: error.message });
      } else {
        console.error(error);
        answer(response, 500, { error: "The signup failed. Please try again." });
      }
    });
  });
}

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  pool: pg.Pool,
  awards: Awards,
): Promise<void> {
  if (request.method !== "POST" || request.url !== "/signup") {
    throw new Refusal(404, "There is only POST /signup.");
  }
  const form = parse(await readBody(request));
  const { userId, award } = await signUp(form, pool, awards);
  answer(response, 201, {
    id: userId,
    name: form.name,
    referralCode: referralCodeOf(userId),
    referredByUserId: award?.referrerId ?? null,
  });
  // After the answer, and not awaited: whatever becomes of it, the signup has happened.
  if (award) awards.deliverSoon(award);
}

/** The user, the referral and the award that it owes: all of them, or none. */
async function signUp(
  form: SignupForm,
  pool: pg.Pool,
  awards: Awards,
): Promise<{ userId: number; award: Award | undefined }> {
  try {
    return await inTransaction(pool, async (transaction) => {
      const referrerId = await findReferrer(transaction, form.referralCode);
      const { rows } = await transaction.query<{ id: number }>(
        `INSERT INTO "User" ("name", "email", "referredByUserId") VALUES ($1, $2, $3) RETURNING "id"`,
        [form.name, form.email, referrerId],
      );
      const userId = rows[0]!.id;
      if (referrerId === null) return { userId, award: undefined };
      const award = { referrerId, referredId: userId };
      await awards.record(transaction, award);
      return { userId, award };
    });
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.constraint === "User_email_key") {
      throw new Refusal(409, "There is an account with this email already.");
    }
    throw error;
  }
}

/**
 * The code that a player shares. The application's tables have no column for one, so here it is
 * the player's id in another dress; an application with codes of its own looks them up instead.
 */
function referralCodeOf(userId: number): string {
  return `R${userId.toString(36).toUpperCase()}`;
}

/** Whose code it is; null where it is nobody's, which does not stop anyone from signing up. */
async function findReferrer(transaction: pg.PoolClient, code: string | undefined): Promise<number | null> {
  if (!code || !/^R[0-9A-Z]{1,6}$/i.test(code)) return null;
  // The lock keeps the referrer from being deleted before the new user refers to them. It waits
  // for nobody who changes the referrer's points.
  const { rows } = await transaction.query<{ id: number }>(
    `SELECT "id" FROM "User" WHERE "id" = $1::bigint FOR KEY SHARE`,
    [Number.parseInt(code.slice(1), 36)],
  );
  return rows[0]?.id ?? null;
}

function parse(body: string): SignupForm {
  let form: unknown;
  try {
    form = JSON.parse(body);
  } catch {
    throw new Refusal(400, "The body is not JSON.");
  }
  const { name, email, referralCode } = (form ?? {}) as Record<string, unknown>;
  if (typeof name !== "string" || !/^\P{Cc}{1,100}$/u.test(name.trim())) {
    throw new Refusal(400, "name must be a text of 1 to 100 characters.");
  }
  if (typeof email !== "string" || !/^[^\s\p{Cc}]+@[^\s\p{Cc}]+$/u.test(email) || email.length > 254) {
    throw new Refusal(400, "email must be an e-mail address.");
  }
  if (referralCode !== undefined && typeof referralCode !== "string") {
    throw new Refusal(400, "referralCode must be a text.");
  }
  return { name: name.trim(), email, referralCode };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    // Read to its end all the same: a caller that is still sending would not hear the answer.
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  if (bytes > MAX_BODY_BYTES) throw new Refusal(413, "The body is too large.");
  return Buffer.concat(chunks).toString("utf8");
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

/** What the caller did wrong. */
class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}
