// What the tests run against besides the real heist server: a database with the outbox, and auth
// services in this process and in others.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { createHeistClient, type HeistClient, type HeistClientOptions } from "heist-client";
import {
  type Cleanup,
  end,
  eventually,
  firstLine,
  TestDatabase,
} from "../../../clients/typescript/test/support/index.ts";
import { type AwardEvent, Awards, type AwardsOptions } from "../src/awards.ts";
import { connect } from "../src/db.ts";
import { createSignupServer } from "../src/server.ts";

const packageFolder = fileURLToPath(new URL("../", import.meta.url));

export interface Player {
  id: number;
  referralCode: string;
}

/** The application's database, migrated by heist, with the outbox. */
export class SignupDatabase extends TestDatabase {
  constructor(url: string) {
    super(url, connect(url));
  }

  async createOutbox(): Promise<void> {
    await this.pool.query(readFileSync(new URL("../outbox.sql", import.meta.url), "utf8"));
  }

  /** What heist's books say of a player: tokens, awards, and notifications of them. */
  async tokensOf(player: Player): Promise<{ balance: number; awards: number; notifications: number }> {
    const [books] = await this.rows<{ balance: number; awards: number; notifications: number }>(
      `SELECT
         COALESCE((SELECT "balance" FROM "HeistToken" WHERE "userId" = $1), 0) AS balance,
         (SELECT count(*)::int FROM "HeistTokenAward" WHERE "referrerId" = $1) AS awards,
         (SELECT count(*)::int FROM "HeistNotification"
          WHERE "userId" = $1 AND "type" = 'TOKEN_EARNED') AS notifications`,
      [player.id],
    );
    return books!;
  }

  async outboxRow(referred: { id: number }): Promise<OutboxRow> {
    const [row] = await this.rows<OutboxRow>(
      `SELECT "attempts", "lastError", "settledAt", "refusal" FROM "HeistAwardOutbox" WHERE "referredId" = $1`,
      [referred.id],
    );
    return row!;
  }

  /** The next test owes nothing for what this one left open. */
  async emptyOutbox(): Promise<void> {
    await this.rows(`DELETE FROM "HeistAwardOutbox"`);
  }

  /** Waits until the outbox owes nothing for this player. */
  settled(referred: { id: number }): Promise<OutboxRow> {
    return eventually(`the award for player ${referred.id} is settled`, async () => {
      const row = await this.outboxRow(referred);
      return row.settledAt && row;
    });
  }

  /** Waits until a delivery has failed, and answers why. */
  postponed(referred: { id: number }): Promise<string> {
    return eventually(`a delivery for player ${referred.id} has failed`, async () => {
      return (await this.outboxRow(referred)).lastError;
    });
  }

  /** As if the time to deliver everything in the outbox again had come. */
  async makeDue(): Promise<void> {
    await this.rows(`UPDATE "HeistAwardOutbox" SET "nextAttemptAt" = now()`);
  }
}

export interface OutboxRow {
  attempts: number;
  lastError: string | null;
  settledAt: Date | null;
  refusal: string | null;
}

/** An auth service in this process, which forgets nothing of what its awards told it. */
export class AuthService {
  readonly events: AwardEvent[] = [];
  readonly awards: Awards;
  url = "";

  private constructor(client: HeistClient, database: SignupDatabase, options: Partial<AwardsOptions>) {
    this.awards = new Awards({
      database: database.pool,
      client,
      pollMs: 50,
      firstDelayMs: 100,
      maxDelayMs: 500,
      log: (event) => this.events.push(event),
      ...options,
    });
  }

  static async start(
    cleanup: Cleanup,
    database: SignupDatabase,
    heistPort: number,
    { token, ...options }: Partial<AwardsOptions> & Pick<HeistClientOptions, "token"> = {},
  ): Promise<AuthService> {
    const client = createHeistClient({ addresses: `127.0.0.1:${heistPort}`, ...(token && { token }) });
    const service = new AuthService(client, database, options);
    const server = createSignupServer(database.pool, service.awards);
    service.awards.start();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    service.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    cleanup.add(async () => {
      server.close();
      await service.awards.stop();
      client.close();
    });
    return service;
  }

  signUp(referralCode?: string): Promise<Player> {
    return signUpAt(this.url, referralCode);
  }
}

/** An auth service that is a process of its own, with the settings of production. */
export async function spawnAuthService(
  cleanup: Cleanup,
  database: SignupDatabase,
  heistPort: number,
): Promise<{
  signUp(referralCode?: string): Promise<Player>;
  stop(): Promise<number | null>;
  kill(): Promise<void>;
}> {
  const child = spawn(process.execPath, ["--import", "tsx", "src/main.ts"], {
    cwd: packageFolder,
    env: {
      ...process.env,
      DATABASE_URL: database.url,
      PORT: "0",
      HEIST_ADDRESSES: `127.0.0.1:${heistPort}`,
    },
    stdio: ["ignore", "pipe", "ignore"],
  });
  cleanup.add(() => end(child, "SIGKILL"));
  const url = await firstLine(child.stdout!, (line) => line.split("listening on ")[1]);
  return {
    signUp: (referralCode) => signUpAt(url, referralCode),
    stop: async () => {
      await end(child, "SIGTERM");
      return child.exitCode;
    },
    kill: () => end(child, "SIGKILL"),
  };
}

let signups = 0;

async function signUpAt(url: string, referralCode: string | undefined): Promise<Player> {
  signups += 1;
  const response = await fetch(`${url}/signup`, {
    method: "POST",
    body: JSON.stringify({ name: `Player ${signups}`, email: `player-${signups}@example.org`, referralCode }),
  });
  if (response.status !== 201) throw new Error(`signup: ${response.status} ${await response.text()}`);
  return (await response.json()) as Player;
}
