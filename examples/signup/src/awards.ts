// The hook of the signup flow: awards the referrer of a new user a heist token, without making
// the signup wait or fail.
//
//   in the signup's transaction:     await awards.record(tx, award)
//   once it is committed:            awards.deliverSoon(award)
//   once per process:                awards.start(), and at its end await awards.stop()
//
// `record` writes the award to the table of outbox.sql, `deliverSoon` calls AwardToken at once,
// and what did not arrive is delivered again from the table: by this process, by another one, or
// by this one after it was restarted. So an award may be delivered more than once, and AwardToken
// is idempotent: it awards one token for one referred player.

import { setTimeout as sleep } from "node:timers/promises";
import { type HeistClient, HeistError, type Reason } from "heist-client";

export interface Award {
  /** Who earns the token. */
  referrerId: number;
  /** Who signed up. */
  referredId: number;
}

/** A connection, or a pool of them: what `pg` and most others are. */
export interface Database {
  query(text: string, values: unknown[]): Promise<{ rows: unknown[] }>;
}

export interface AwardsOptions {
  /** Not a connection of a transaction: the outbox is read and settled outside of any. */
  database: Database;
  /** The heist service. It stays open when the awards have stopped. */
  client: Pick<HeistClient, "awardToken">;
  /** How long one delivery may take, with its retries. Default: 2000. */
  deadlineMs?: number;
  /** From the first delivery to the second, longer than `deadlineMs`; then twice that, and so on. Default: 5000. */
  firstDelayMs?: number;
  /** The longest delay between two deliveries. Default: 15 minutes. */
  maxDelayMs?: number;
  /** How often to look for deliveries that are due. Default: 1000. */
  pollMs?: number;
  /** Learns what became of each delivery. */
  log: (event: AwardEvent) => void;
}

export type Delivery = { award: Award } & (
  | { outcome: "awarded"; alreadyAwarded: boolean }
  // For good: it is not tried again.
  | { outcome: "refused"; reason: string }
  // It stays in the outbox and is tried again.
  | { outcome: "postponed"; error: string }
);

export type AwardEvent = Delivery | { outcome: "outbox_unavailable"; error: string };

/**
 * What no repetition changes. Everything else is tried again, even what looks like a mistake of
 * ours: the switch, a key or a deployment that is wrong today is put right tomorrow.
 */
const FINAL_REASONS: ReadonlySet<Reason> = new Set<Reason>([
  "SELF_REFERRAL",
  "USER_NOT_FOUND",
  "REFERRAL_MISMATCH",
  "REFERRAL_ALREADY_AWARDED",
]);

/**
 * Deliveries that may be under way when a signup begins another one. While the service hangs,
 * signups leave their awards to the outbox instead of piling up calls.
 */
const MAX_DELIVERIES = 100;

/** Awards that one look into the outbox claims. */
const BATCH = 20;

export class Awards {
  readonly #options: Required<AwardsOptions>;
  readonly #deliveries = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(options: AwardsOptions) {
    this.#options = {
      deadlineMs: 2_000,
      firstDelayMs: 5_000,
      maxDelayMs: 15 * 60_000,
      pollMs: 1_000,
      ...options,
    };
  }

  /** Writes the award to the outbox, in the transaction of the signup. */
  async record(transaction: Database, { referrerId, referredId }: Award): Promise<void> {
    await transaction.query(
      `INSERT INTO "HeistAwardOutbox" ("referredId", "referrerId", "nextAttemptAt")
       VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')`,
      [referredId, referrerId, this.#options.firstDelayMs],
    );
  }

  /** Begins to deliver an award whose transaction is committed. Returns at once, and never throws. */
  deliverSoon(award: Award): void {
    if (this.#deliveries.size < MAX_DELIVERIES && !this.#stopping.signal.aborted) {
      void this.#track(this.#deliver(award));
    }
  }

  /** Begins to deliver what is due in the outbox, now and from now on. */
  start(): void {
    this.#loop ??= this.#deliverForever();
  }

  /** Ends when the deliveries that have begun have ended, which takes no longer than their deadline. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
    await Promise.all(this.#deliveries);
  }

  async #deliverForever(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const claimed = await this.#deliverDue();
      if (claimed < BATCH) {
        // Jittered, so that instances started together do not all look at once.
        const pauseMs = this.#options.pollMs * (0.5 + Math.random());
        await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** Delivers one batch of what is due, and answers how many those were. */
  async #deliverDue(): Promise<number> {
    try {
      const awards = await this.#claimDue();
      await Promise.all(awards.map((award) => this.#track(this.#deliver(award))));
      return awards.length;
    } catch (error) {
      this.#options.log({ outcome: "outbox_unavailable", error: messageOf(error) });
      return 0;
    }
  }

  /**
   * Takes awards that are due, and puts off their next attempt in the same statement: an instance
   * that dies with them needs no cleaning up after. SKIP LOCKED gives each instance its own.
   */
  async #claimDue(): Promise<Award[]> {
    const { rows } = await this.#options.database.query(
      `WITH due AS (
         SELECT "referredId"
         FROM "HeistAwardOutbox"
         WHERE "settledAt" IS NULL AND "nextAttemptAt" <= now()
         ORDER BY "nextAttemptAt"
         LIMIT $1
         FOR UPDATE SKIP LOCKED
       )
       UPDATE "HeistAwardOutbox" AS award
       SET
         "attempts" = award."attempts" + 1,
         "nextAttemptAt" = now() + interval '1 millisecond'
           -- Half of the delay is random. The exponent is bounded only so that it cannot overflow.
           * least($2 * 2 ^ least(award."attempts", 30), $3) * (0.5 + random() / 2)
       FROM due
       WHERE award."referredId" = due."referredId"
       RETURNING award."referrerId", award."referredId"`,
      [BATCH, this.#options.firstDelayMs, this.#options.maxDelayMs],
    );
    return rows as Award[];
  }

  async #deliver(award: Award): Promise<void> {
    try {
      const delivery = await this.#call(award);
      this.#options.log(delivery);
      if (delivery.outcome === "postponed") {
        await this.#notePostponed(award, delivery.error);
      } else {
        await this.#settle(award, delivery.outcome === "refused" ? delivery.reason : null);
      }
    } catch (error) {
      // The row stays open, so the award is delivered again, which changes nothing.
      this.#options.log({ outcome: "outbox_unavailable", error: messageOf(error) });
    }
  }

  async #call(award: Award): Promise<Delivery> {
    const { client, deadlineMs } = this.#options;
    try {
      // Without referredName the service takes the name on the account, which we have just made.
      const { alreadyAwarded } = await client.awardToken(award, { timeoutMs: deadlineMs });
      return { award, outcome: "awarded", alreadyAwarded };
    } catch (error) {
      if (!(error instanceof HeistError)) return { award, outcome: "postponed", error: messageOf(error) };
      const { reason } = error.refusal;
      if (FINAL_REASONS.has(reason)) return { award, outcome: "refused", reason };
      return { award, outcome: "postponed", error: reason };
    }
  }

  async #settle({ referredId }: Award, refusal: string | null): Promise<void> {
    await this.#options.database.query(
      `UPDATE "HeistAwardOutbox"
       SET "settledAt" = now(), "refusal" = $2, "lastError" = NULL
       WHERE "referredId" = $1 AND "settledAt" IS NULL`,
      [referredId, refusal],
    );
  }

  async #notePostponed({ referredId }: Award, error: string): Promise<void> {
    await this.#options.database.query(
      `UPDATE "HeistAwardOutbox" SET "lastError" = $2 WHERE "referredId" = $1 AND "settledAt" IS NULL`,
      [referredId, error],
    );
  }

  /** Lets `stop` wait for a delivery. */
  async #track(delivery: Promise<void>): Promise<void> {
    this.#deliveries.add(delivery);
    await delivery;
    this.#deliveries.delete(delivery);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
