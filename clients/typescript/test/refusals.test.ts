// Every kind of refusal of the real server, as the client's callers see it.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Code, HeistError, type Refusal } from "../src/index.ts";
import { startSilentServer, unusedPort, runHeist } from "./support/index.ts";
import { suite } from "./suite.ts";

const s = suite();
const NOBODY = 2_000_000_000;

async function failure(call: Promise<unknown>): Promise<HeistError> {
  const error = await call.then(
    () => assert.fail("the call succeeded"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof HeistError, String(error));
  return error;
}

async function refusal(call: Promise<unknown>): Promise<Refusal> {
  return (await failure(call)).refusal;
}

/** The refusal without its message, which may change. */
function facts({ message, ...facts }: Refusal): object {
  assert.ok(message.length > 0);
  return facts;
}

describe("a refusal", () => {
  it("says the reason, the code, the call and a sentence", async () => {
    const client = s.client((await s.serve()).address);
    const error = await failure(client.executeHeist({ attackerId: 7, victimId: 7 }));

    assert.equal(error.refusal.reason, "SELF_TARGET");
    assert.equal(error.code, Code.InvalidArgument);
    assert.equal(error.rpc, "ExecuteHeist");
    assert.match(error.callId ?? "", /^[\w-]+$/);
    assert.equal(error.message, `ExecuteHeist: SELF_TARGET: ${error.refusal.message}`);
  });

  it("has the facts of its reason", async () => {
    const client = s.client((await s.serve()).address);
    const robber = await s.robber(client, 2);
    const [victim, poor] = (await s.database.players("Victim", "Poor")) as [number, number];
    await s.database.rows(`UPDATE "User" SET "monthlyPoints" = 19 WHERE "id" = $1`, [poor]);

    assert.deepEqual(facts(await refusal(client.executeHeist({ attackerId: NOBODY, victimId: victim }))), {
      reason: "ATTACKER_NOT_FOUND",
    });
    assert.deepEqual(facts(await refusal(client.executeHeist({ attackerId: victim, victimId: robber }))), {
      reason: "INSUFFICIENT_TOKENS",
      tokensRequired: 1,
    });
    assert.deepEqual(
      facts(await refusal(client.adjustBalance({ userId: robber, delta: -5, reason: "fraud" }))),
      { reason: "INSUFFICIENT_TOKENS", balance: 2 },
    );
    assert.deepEqual(facts(await refusal(client.executeHeist({ attackerId: robber, victimId: poor }))), {
      reason: "INSUFFICIENT_POINTS",
      victimPoints: 19,
      pointsRequired: 20,
    });
    assert.deepEqual(facts(await refusal(client.getBalance({ userId: NOBODY }))), {
      reason: "USER_NOT_FOUND",
      userId: NOBODY,
    });
    assert.deepEqual(facts(await refusal(client.getHeist({ heistId: 4_000_000_000n }))), {
      reason: "HEIST_NOT_FOUND",
      heistId: 4_000_000_000n,
    });
    const requestId = randomUUID();
    await client.executeHeist({ attackerId: robber, victimId: victim, requestId });
    assert.deepEqual(facts(await refusal(client.executeHeist({ attackerId: robber, victimId: poor, requestId }))), {
      reason: "REQUEST_ID_REUSED",
    });
  });

  it("names the wrong fields", async () => {
    const client = s.client((await s.serve()).address);
    const wrong = await refusal(client.executeHeist({ attackerId: -1, victimId: 0, requestId: "not a UUID" }));

    assert.equal(wrong.reason, "INVALID_REQUEST");
    assert.deepEqual(wrong.fields.map(({ field }) => field), ["attacker_id", "victim_id", "request_id"]);
    assert.ok(wrong.fields.every(({ description }) => description.length > 0));
  });

  it("says when a player may rob, and be robbed, again", async () => {
    const { address } = await s.serve({ env: { HEIST_PROTECTION_AFTER: "1", HEIST_COOLDOWN: "1h" } });
    const client = s.client(address);
    const robber = await s.robber(client, 2);
    const other = await s.robber(client);
    const [victim] = (await s.database.players("Victim")) as [number];
    const { cooldownEndTime } = await client.executeHeist({ attackerId: robber, victimId: victim });
    assert.ok(cooldownEndTime);

    const cooldown = await refusal(client.executeHeist({ attackerId: robber, victimId: victim }));
    assert.equal(cooldown.reason, "COOLDOWN_ACTIVE");
    assert.ok(cooldown.retryAfterMs > 3_500_000 && cooldown.retryAfterMs <= 3_600_000, String(cooldown.retryAfterMs));
    assert.equal(cooldown.cooldownEndTime.getTime(), Number(cooldownEndTime.seconds) * 1000 + Math.floor(cooldownEndTime.nanos / 1e6));

    const protection = await refusal(client.executeHeist({ attackerId: other, victimId: victim }));
    assert.equal(protection.reason, "TARGET_PROTECTED");
    const hours = (protection.protectionEndTime.getTime() - Date.now()) / 3_600_000;
    assert.ok(hours > 47.9 && hours <= 48, `protected for ${hours} h`);
  });

  it("says when a caller may call again", async () => {
    const { address } = await s.serve({ env: { HEIST_READ_RATE_LIMIT_PER_MINUTE: "1" } });
    const client = s.client(address);
    const [player] = (await s.database.players("Impatient")) as [number];
    await client.getBalance({ userId: player });

    const limited = await refusal(client.getBalance({ userId: player }));
    assert.equal(limited.reason, "RATE_LIMITED");
    assert.equal(limited.limitPerMinute, 1);
    assert.ok(limited.retryAfterMs > 0 && limited.retryAfterMs <= 60_000);
  });

  it("is one of the switch", async () => {
    const { address } = await s.serve({ env: { HEIST_ENABLED: "false" } });
    assert.equal((await refusal(s.client(address).getLeaderboard({}))).reason, "FEATURE_DISABLED");
  });
});

describe("a call that fails without the service's word", () => {
  it("says that it was not sent, and waits for the service until its time is up", async () => {
    const client = s.client(`127.0.0.1:${await unusedPort()}`);
    const begun = performance.now();
    assert.equal((await refusal(client.getLeaderboard({}, { timeoutMs: 500 }))).reason, "NO_CONNECTION");
    const elapsedMs = performance.now() - begun;
    assert.ok(elapsedMs > 100 && elapsedMs < 2_000, `${elapsedMs} ms`);
  });

  it("says that its time is up", async () => {
    const { port } = await startSilentServer(s.cleanup);
    assert.equal(
      (await refusal(s.client(`127.0.0.1:${port}`).getLeaderboard({}, { timeoutMs: 300 }))).reason,
      "DEADLINE_EXCEEDED",
    );
  });

  it("says that the caller ended it, at once", async () => {
    const { port } = await startSilentServer(s.cleanup);
    const ended = new AbortController();
    const call = refusal(s.client(`127.0.0.1:${port}`).getLeaderboard({}, { signal: ended.signal, timeoutMs: 60_000 }));
    ended.abort();
    assert.equal((await call).reason, "CANCELLED");
  });
});

describe("a server that asks who calls", () => {
  it("gets the token of the moment, and refuses by scope", async () => {
    const folder = await mkdtemp(join(tmpdir(), "heist-client-"));
    s.cleanup.add(() => rm(folder, { recursive: true }));
    const secret = join(folder, "secret");
    writeFileSync(secret, "a secret of at least thirty-two bytes, in one line");
    const env = {
      HEIST_AUTH: "jwt",
      HEIST_JWT_SECRET_FILE: secret,
      HEIST_JWT_ISSUER: "test",
      HEIST_JWT_AUDIENCE: "heist",
    };
    const { address } = await s.serve({ env });
    const sign = async (...args: string[]) => (await runHeist(["token", ...args], env)).trim();
    const tokens = [await sign("--subject", "board", "--scope", "heist.read"), "nonsense"];
    const client = s.client(address, { token: () => tokens[0]! });

    await client.getLeaderboard({});
    assert.deepEqual(facts(await refusal(client.awardToken({ referrerId: 1, referredId: 2 }))), {
      reason: "PERMISSION_DENIED",
      scope: "token.award",
    });
    tokens.shift();
    assert.deepEqual(facts(await refusal(client.getLeaderboard({}))), { reason: "UNAUTHENTICATED" });
    await assert.rejects(
      async () => {
        for await (const _ of client.notifications(1)) assert.fail("a stream without a token");
      },
      (error: HeistError) => error.refusal.reason === "UNAUTHENTICATED",
    );
  });
});
