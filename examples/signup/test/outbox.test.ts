// The outbox by itself: what is final, what is delivered again and when, and by whom.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { Code } from "heist-client";
import type { Award, Database } from "../src/awards.ts";
import {
  Cleanup,
  ConnectError,
  eventually,
  Heist,
  startFakeHeist,
  unusedPort,
} from "../../../clients/typescript/test/support/index.ts";
import { AuthService, SignupDatabase } from "./harness.ts";

const suiteCleanup = new Cleanup();
let cleanup: Cleanup;
let database: SignupDatabase;

before(async () => {
  database = await SignupDatabase.create(suiteCleanup);
  await database.createOutbox();
});
beforeEach(() => {
  cleanup = new Cleanup();
});
afterEach(async () => {
  await cleanup.run();
  await database.emptyOutbox();
});
after(() => suiteCleanup.run());

/** Users without a signup, the first the referrer of all others. */
async function makeUsers(count: number): Promise<number[]> {
  const rows = await database.rows<{ id: number }>(
    `INSERT INTO "User" ("name") SELECT 'Player' FROM generate_series(1, $1::int) RETURNING "id"`,
    [count],
  );
  const ids = rows.map(({ id }) => id);
  await database.rows(`UPDATE "User" SET "referredByUserId" = $1 WHERE "id" = ANY($2)`, [ids[0], ids.slice(1)]);
  return ids;
}

/** An award as a signup leaves it whose process died before it called anybody. */
async function recordOnly(auth: AuthService, award: Award): Promise<void> {
  await auth.awards.record(database.pool, award);
  await database.makeDue();
}

describe("what the service refuses for good", () => {
  it("is recorded with the reason, and not tried again", async () => {
    const heist = await Heist.start(cleanup, database);
    const auth = await AuthService.start(cleanup, database, heist.port);
    const [referrer, referred, other, unreferred] = await makeUsers(4) as [number, number, number, number];
    await database.rows(`UPDATE "User" SET "referredByUserId" = NULL WHERE "id" = $1`, [unreferred]);
    const cases: [Award, string | null][] = [
      [{ referrerId: referrer, referredId: referrer }, "SELF_REFERRAL"],
      [{ referrerId: other, referredId: referred }, "REFERRAL_MISMATCH"],
      [{ referrerId: referrer, referredId: unreferred }, null],
      [{ referrerId: other, referredId: unreferred }, "REFERRAL_ALREADY_AWARDED"],
    ];
    for (const [award, reason] of cases) {
      await recordOnly(auth, award);
      const { attempts, refusal, lastError } = await database.settled({ id: award.referredId });
      assert.deepEqual({ attempts, refusal, lastError }, { attempts: 2, refusal: reason, lastError: null });
      await database.emptyOutbox();
    }
    assert.deepEqual(
      auth.events.map((event) => event.outcome),
      ["refused", "refused", "awarded", "refused"],
    );
  });

  it("includes players who are gone", async () => {
    const heist = await Heist.start(cleanup, database);
    const auth = await AuthService.start(cleanup, database, heist.port);
    const award = { referrerId: 2_000_000_000, referredId: 2_000_000_001 };

    auth.awards.deliverSoon(award);

    await eventually("the delivery has ended", async () => auth.events.length > 0);
    assert.deepEqual(auth.events, [{ award, outcome: "refused", reason: "USER_NOT_FOUND" }]);
  });

  it("is nothing but what it names: a refusal without a reason is tried again", async () => {
    const puzzling = await startFakeHeist(cleanup, () => {
      throw new ConnectError("as it were", Code.AlreadyExists);
    });
    const auth = await AuthService.start(cleanup, database, puzzling.port, { firstDelayMs: 60_000 });
    const [referrerId, referredId] = await makeUsers(2) as [number, number];

    await recordOnly(auth, { referrerId, referredId });

    assert.equal(await database.postponed({ id: referredId }), "UNKNOWN");
    assert.equal((await database.outboxRow({ id: referredId })).settledAt, null);
  });
});

describe("deliveries from the outbox", () => {
  it("make up for a process that died between commit and call", async () => {
    const heist = await Heist.start(cleanup, database);
    const [referrerId, referredId] = await makeUsers(2) as [number, number];
    const dead = await AuthService.start(cleanup, database, heist.port);
    await dead.awards.stop();
    await recordOnly(dead, { referrerId, referredId });

    const auth = await AuthService.start(cleanup, database, heist.port);

    await database.settled({ id: referredId });
    assert.equal(auth.events.length, 1);
    assert.deepEqual(
      await database.rows(`SELECT "balance" FROM "HeistToken" WHERE "userId" = $1`, [referrerId]),
      [{ balance: 1 }],
    );
  });

  it("come at growing intervals, up to the longest", async () => {
    const minuteMs = 60_000;
    const auth = await AuthService.start(cleanup, database, await unusedPort(), {
      deadlineMs: 100,
      firstDelayMs: minuteMs,
      maxDelayMs: 5 * minuteMs,
    });
    const [referrerId, referredId] = await makeUsers(2) as [number, number];
    await auth.awards.record(database.pool, { referrerId, referredId });

    // Between half of the delay and all of it; a little has passed when we look.
    const bounds = [[1, 2], [2, 4], [2.5, 5], [2.5, 5]] as const;
    for (const [index, [least, most]] of bounds.entries()) {
      await database.makeDue();
      const delayMs = await eventually("the award is claimed", async () => {
        const [row] = await database.rows<{ delayMs: number; attempts: number }>(
          `SELECT "attempts", extract(epoch FROM "nextAttemptAt" - now())::float * 1000 AS "delayMs"
           FROM "HeistAwardOutbox"`,
        );
        return row!.attempts === index + 2 ? row!.delayMs : undefined;
      });
      assert.ok(
        delayMs > least * minuteMs - 20_000 && delayMs <= most * minuteMs,
        `attempt ${index + 2} was followed by a delay of ${delayMs} ms`,
      );
    }
  });

  it("are shared by instances: no award is claimed twice", async () => {
    const calls = new Map<number, number>();
    const fake = await startFakeHeist(cleanup, ({ referredId }) => {
      calls.set(referredId, (calls.get(referredId) ?? 0) + 1);
      return { alreadyAwarded: false };
    });
    const [referrerId, ...referredIds] = await makeUsers(201) as [number, ...number[]];
    await database.rows(
      `INSERT INTO "HeistAwardOutbox" ("referrerId", "referredId", "nextAttemptAt")
       SELECT $1, unnest($2::int[]), now()`,
      [referrerId, referredIds],
    );

    // On a busy machine, too, no delivery fails, and none is due again before it has ended.
    const patient = { deadlineMs: 30_000, firstDelayMs: 120_000, maxDelayMs: 120_000 };
    const instances = await Promise.all(
      [1, 2, 3].map(() => AuthService.start(cleanup, database, fake.port, patient)),
    );

    await eventually("all awards are settled", async () => {
      const open = await database.rows(`SELECT FROM "HeistAwardOutbox" WHERE "settledAt" IS NULL`);
      return open.length === 0;
    });
    assert.equal(calls.size, 200);
    assert.deepEqual(new Set(calls.values()), new Set([1]));
    assert.equal(instances.flatMap(({ events }) => events).length, 200);
  });

  it("go on after the database was away", async () => {
    const heist = await Heist.start(cleanup, database);
    const [referrerId, referredId] = await makeUsers(2) as [number, number];
    let away = true;
    const unreliable: Database = {
      query: (text, values) => {
        if (away) throw new Error("connection refused");
        return database.pool.query(text, values);
      },
    };
    const auth = await AuthService.start(cleanup, database, heist.port, { database: unreliable });
    await auth.awards.record(database.pool, { referrerId, referredId });
    auth.awards.deliverSoon({ referrerId, referredId });
    await eventually("it was noticed", async () => {
      return auth.events.some((event) => event.outcome === "outbox_unavailable");
    });

    away = false;

    await database.settled({ id: referredId });
    assert.deepEqual(
      await database.rows(`SELECT "balance" FROM "HeistToken" WHERE "userId" = $1`, [referrerId]),
      [{ balance: 1 }],
    );
  });

  it("carry the token of the moment", async () => {
    const seen: unknown[] = [];
    const fake = await startFakeHeist(cleanup, (_request, { requestHeader }) => {
      seen.push(requestHeader.get("authorization"));
      return { alreadyAwarded: false };
    });
    const tokens = ["first", "second"];
    const auth = await AuthService.start(cleanup, database, fake.port, {
      token: () => {
        const token = tokens.shift();
        if (!token) throw new Error("no token");
        return token;
      },
    });
    const [referrerId, ...referredIds] = await makeUsers(4) as [number, ...number[]];
    for (const [index, referredId] of referredIds.entries()) {
      auth.awards.deliverSoon({ referrerId, referredId });
      await eventually("the delivery has ended", async () => auth.events.length === index + 1);
    }
    assert.deepEqual(seen, ["Bearer first", "Bearer second"]);
    assert.deepEqual(auth.events.map((event) => event.outcome), ["awarded", "awarded", "postponed"]);
  });

  it("that have begun end before the process does", async () => {
    let answer: (() => void) | undefined;
    const slow = await startFakeHeist(cleanup, () => {
      return new Promise((resolve) => (answer = () => resolve({ alreadyAwarded: false })));
    });
    const auth = await AuthService.start(cleanup, database, slow.port, { deadlineMs: 60_000 });
    const [referrerId, referredId] = await makeUsers(2) as [number, number];
    await auth.awards.record(database.pool, { referrerId, referredId });
    auth.awards.deliverSoon({ referrerId, referredId });
    await eventually("the call has arrived", async () => answer);

    const stopped = auth.awards.stop();
    answer!();
    await stopped;

    assert.notEqual((await database.outboxRow({ id: referredId })).settledAt, null);
  });
});
