// Signups with referral codes, against the real heist server and a real PostgreSQL: whatever
// state heist is in, the signup answers, and the token arrives exactly once.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { Code } from "heist-client";
import {
  Cleanup,
  ConnectError,
  eventually,
  Heist,
  Network,
  startFakeHeist,
  startSilentServer,
  unusedPort,
} from "../../../clients/typescript/test/support/index.ts";
import type { AwardEvent } from "../src/awards.ts";
import { AuthService, type Player, SignupDatabase, spawnAuthService } from "./harness.ts";

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

const nothing = { balance: 0, awards: 0, notifications: 0 };
const oneToken = { balance: 1, awards: 1, notifications: 1 };

function median(figures: number[]): number {
  return [...figures].sort((left, right) => left - right)[Math.floor(figures.length / 2)]!;
}

async function timed(signup: Promise<Player>): Promise<{ player: Player; elapsedMs: number }> {
  const begun = performance.now();
  const player = await signup;
  return { player, elapsedMs: performance.now() - begun };
}

/**
 * Signups with and without a code in turn, so that both meet the same machine; answers the
 * referred players. The bound is far above noise and far below any wait for heist.
 */
async function assertReferralsDoNotSlowSignups(auth: AuthService, referrer: Player): Promise<Player[]> {
  await auth.signUp();
  const plainMs: number[] = [];
  const referredMs: number[] = [];
  const referred: Player[] = [];
  for (let round = 0; round < 15; round += 1) {
    plainMs.push((await timed(auth.signUp())).elapsedMs);
    const { player, elapsedMs } = await timed(auth.signUp(referrer.referralCode));
    referredMs.push(elapsedMs);
    referred.push(player);
  }
  assert.ok(
    median(referredMs) < 10 * median(plainMs),
    `a signup took ${median(plainMs)} ms, and with a referral ${median(referredMs)} ms`,
  );
  return referred;
}

describe("feature on", () => {
  it("gives the referrer a token and tells them", async () => {
    const heist = await Heist.start(cleanup, database);
    const auth = await AuthService.start(cleanup, database, heist.port, { firstDelayMs: 60_000 });
    const referrer = await auth.signUp();

    const referred = await auth.signUp(referrer.referralCode);

    assert.deepEqual(
      await database.rows(`SELECT "referredByUserId" FROM "User" WHERE "id" = $1`, [referred.id]),
      [{ referredByUserId: referrer.id }],
    );
    const { attempts, refusal } = await database.settled(referred);
    assert.equal(attempts, 1, "the signup's own call delivered it");
    assert.equal(refusal, null);
    assert.deepEqual(await database.tokensOf(referrer), oneToken);
    assert.deepEqual(await database.tokensOf(referred), nothing);
  });

  it("signs up without a code, and with one that is nobody's", async () => {
    const auth = await AuthService.start(cleanup, database, await unusedPort());
    for (const code of [undefined, "", "nonsense", "R0", "RZZZZZZ"]) {
      const player = await auth.signUp(code);
      assert.deepEqual(
        await database.rows(`SELECT "referredByUserId" FROM "User" WHERE "id" = $1`, [player.id]),
        [{ referredByUserId: null }],
      );
      assert.equal(await database.outboxRow(player), undefined);
    }
  });

  it("gives exactly fifty tokens for fifty signups at once with one code", async () => {
    const heist = await Heist.start(cleanup, database);
    const instances = [
      await AuthService.start(cleanup, database, heist.port),
      await AuthService.start(cleanup, database, heist.port),
    ];
    const referrer = await instances[0]!.signUp();

    const referred = await Promise.all(
      Array.from({ length: 50 }, (_, index) => instances[index % 2]!.signUp(referrer.referralCode)),
    );

    await Promise.all(referred.map((player) => database.settled(player)));
    assert.deepEqual(await database.tokensOf(referrer), { balance: 50, awards: 50, notifications: 50 });
  });
});

describe("feature off", () => {
  it("signs up as always, and awards the token after heists are switched on again", async () => {
    const off = await Heist.start(cleanup, database, { env: { HEIST_ENABLED: "false" } });
    const auth = await AuthService.start(cleanup, database, off.port);
    const referrer = await auth.signUp();

    const [referred] = await assertReferralsDoNotSlowSignups(auth, referrer);

    assert.equal(await database.postponed(referred!), "FEATURE_DISABLED");
    assert.deepEqual(await database.tokensOf(referrer), nothing);

    await off.stop();
    await Heist.start(cleanup, database, { port: off.port });
    await database.settled(referred!);
    await eventually("all tokens have arrived", async () => (await database.tokensOf(referrer)).balance === 15);
  });
});

describe("heist service in trouble", () => {
  it("down: signs up as always, and awards the token after it is up", async () => {
    const port = await unusedPort();
    const auth = await AuthService.start(cleanup, database, port);
    const referrer = await auth.signUp();

    const referred = await assertReferralsDoNotSlowSignups(auth, referrer);

    assert.match(await database.postponed(referred[0]!), /^(NO_CONNECTION|DEADLINE_EXCEEDED)$/);
    await Heist.start(cleanup, database, { port });
    await Promise.all(referred.map((player) => database.settled(player)));
    assert.deepEqual(await database.tokensOf(referrer), { balance: 15, awards: 15, notifications: 15 });
  });

  it("erroring: signs up as always, and awards the token after it is well", async () => {
    const calls = new Map<number, number>();
    const failing = await startFakeHeist(cleanup, ({ referredId }) => {
      calls.set(referredId, (calls.get(referredId) ?? 0) + 1);
      throw new ConnectError("Internal error 7.", Code.Internal);
    });
    // The outbox waits: every call is that of a signup.
    const auth = await AuthService.start(cleanup, database, failing.port, { firstDelayMs: 60_000 });
    const referrer = await auth.signUp();

    const referred = await assertReferralsDoNotSlowSignups(auth, referrer);

    for (const player of referred) {
      assert.match(await database.postponed(player), /INTERNAL/);
      assert.equal(calls.get(player.id), 1, "INTERNAL is not repeated at once");
    }
    failing.stop();
    await Heist.start(cleanup, database, { port: failing.port });
    await database.makeDue();
    await Promise.all(referred.map((player) => database.settled(player)));
    assert.deepEqual(await database.tokensOf(referrer), { balance: 15, awards: 15, notifications: 15 });
  });

  it("hanging: signs up as always, and awards the token after it is well", async () => {
    const silent = await startSilentServer(cleanup);
    const auth = await AuthService.start(cleanup, database, silent.port, { firstDelayMs: 60_000 });
    const referrer = await auth.signUp();

    const referred = await assertReferralsDoNotSlowSignups(auth, referrer);

    assert.ok(silent.connections() > 0, "the calls were made");
    assert.match(await database.postponed(referred[0]!), /DEADLINE_EXCEEDED/);
    silent.stop();
    await Heist.start(cleanup, database, { port: silent.port });
    await database.makeDue();
    await Promise.all(referred.map((player) => database.settled(player)));
    assert.deepEqual(await database.tokensOf(referrer), { balance: 15, awards: 15, notifications: 15 });
  });

  it("hanging: answers the signup while the call is still waiting", async () => {
    const silent = await startSilentServer(cleanup);
    const auth = await AuthService.start(cleanup, database, silent.port);
    const referrer = await auth.signUp();

    const referred = await auth.signUp(referrer.referralCode);

    assert.deepEqual(auth.events, [], "no delivery has ended");
    assert.equal((await database.outboxRow(referred)).settledAt, null);
  });

  it("unavailable for a moment: the signup's own call repeats itself", async () => {
    let calls = 0;
    const recovering = await startFakeHeist(cleanup, () => {
      calls += 1;
      if (calls < 3) throw new ConnectError("", Code.Unavailable);
      return { alreadyAwarded: false };
    });
    const auth = await AuthService.start(cleanup, database, recovering.port, { firstDelayMs: 60_000 });

    const referred = await auth.signUp((await auth.signUp()).referralCode);

    assert.equal((await database.settled(referred)).attempts, 1);
    assert.equal(calls, 3);
  });

  for (const code of [Code.ResourceExhausted, Code.Aborted, Code.Unauthenticated]) {
    it(`${Code[code]}: leaves the award to the outbox after one call`, async () => {
      let calls = 0;
      const refusing = await startFakeHeist(cleanup, () => {
        calls += 1;
        throw new ConnectError("", code);
      });
      const auth = await AuthService.start(cleanup, database, refusing.port, { firstDelayMs: 60_000 });

      const referred = await auth.signUp((await auth.signUp()).referralCode);

      assert.match(await database.postponed(referred), /^(UNKNOWN|UNAUTHENTICATED)$/);
      assert.equal((await database.outboxRow(referred)).settledAt, null);
      assert.equal(calls, 1);
    });
  }
});

describe("requests that are wrong", () => {
  it("are refused, and make no user", async () => {
    const auth = await AuthService.start(cleanup, database, await unusedPort());
    await auth.signUp();
    const [{ email, users }] = await database.rows<{ email: string; users: number }>(
      `SELECT max("email") AS email, count(*)::int AS users FROM "User"`,
    ) as [{ email: string; users: number }];
    const cases: [number, unknown][] = [
      [400, "not JSON"],
      [400, null],
      [400, { name: "", email: "a@example.org" }],
      [400, { name: "Zero\u0000", email: "a@example.org" }],
      [400, { name: "Long".repeat(100), email: "a@example.org" }],
      [400, { name: "Ann", email: "nowhere" }],
      [400, { name: "Ann", email: "a@example.org", referralCode: 7 }],
      [409, { name: "Ann", email }],
      [413, { name: "Large".repeat(10_000), email: "a@example.org" }],
    ];
    for (const [status, body] of cases) {
      const response = await fetch(`${auth.url}/signup`, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
      });
      assert.equal(response.status, status, JSON.stringify(body)?.slice(0, 80));
      assert.equal(typeof ((await response.json()) as { error: string }).error, "string");
    }
    assert.equal((await fetch(auth.url)).status, 404);
    assert.deepEqual(await database.rows(`SELECT count(*)::int AS users FROM "User"`), [{ users }]);
  });
});

describe("crashes", () => {
  it("auth service killed after the commit, in the middle of the call: another one delivers", async () => {
    const silent = await startSilentServer(cleanup);
    const doomed = await spawnAuthService(cleanup, database, silent.port);
    const referrer = await doomed.signUp();
    const referred = await doomed.signUp(referrer.referralCode);
    await eventually("the call has begun", async () => silent.connections() > 0);
    await doomed.kill();
    const { attempts, settledAt } = await database.outboxRow(referred);
    assert.deepEqual({ attempts, settledAt }, { attempts: 1, settledAt: null });

    const heist = await Heist.start(cleanup, database);
    await spawnAuthService(cleanup, database, heist.port);

    await database.settled(referred);
    assert.deepEqual(await database.tokensOf(referrer), oneToken);
  });

  it("auth service stopped in the middle of the call: it ends by itself, and another one delivers", async () => {
    const silent = await startSilentServer(cleanup);
    const stopped = await spawnAuthService(cleanup, database, silent.port);
    const referrer = await stopped.signUp();
    const referred = await stopped.signUp(referrer.referralCode);

    assert.equal(await stopped.stop(), 0);

    const { lastError } = await database.outboxRow(referred);
    assert.match(lastError ?? "", /DEADLINE_EXCEEDED/, "it waited for what became of the call");
    const heist = await Heist.start(cleanup, database);
    await AuthService.start(cleanup, database, heist.port);
    await database.makeDue();
    await database.settled(referred);
    assert.deepEqual(await database.tokensOf(referrer), oneToken);
  });

  it("heist killed before it has committed: exactly one token", async () => {
    const heist = await Heist.start(cleanup, database);
    const auth = await AuthService.start(cleanup, database, heist.port);
    const referrer = await auth.signUp();
    // Whoever holds the referrer's row keeps AwardToken in the middle of its transaction.
    const holder = await database.pool.connect();
    cleanup.add(() => holder.release(true));
    await holder.query("BEGIN");
    await holder.query(`SELECT FROM "User" WHERE "id" = $1 FOR NO KEY UPDATE`, [referrer.id]);
    const { rows: [holding] } = await holder.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");

    const referred = await auth.signUp(referrer.referralCode);
    await eventually("AwardToken waits for the referrer's row", async () => {
      const blocked = await database.rows(
        `SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))`,
        [holding!.pid],
      );
      return blocked.length > 0;
    });
    await heist.kill();
    await holder.query("ROLLBACK");
    await Heist.start(cleanup, database, { port: heist.port });

    await database.settled(referred);
    assert.deepEqual(await database.tokensOf(referrer), oneToken);
  });

  it("heist killed after it has committed and before it has answered: exactly one token", async () => {
    const heist = await Heist.start(cleanup, database);
    const network = await Network.start(cleanup, heist.port);
    const auth = await AuthService.start(cleanup, database, network.port);
    const referrer = await auth.signUp();
    await database.settled(await auth.signUp((await auth.signUp()).referralCode));

    network.answers = false;
    const referred = await auth.signUp(referrer.referralCode);
    await eventually("the token is awarded", async () => (await database.tokensOf(referrer)).awards === 1);
    assert.equal((await database.outboxRow(referred)).settledAt, null);
    await heist.kill();
    await Heist.start(cleanup, database, { port: heist.port });
    network.answers = true;

    await database.settled(referred);
    assert.deepEqual(await database.tokensOf(referrer), oneToken);
    const isRepetition = (event: AwardEvent) => event.outcome === "awarded" && event.alreadyAwarded;
    assert.ok(auth.events.some(isRepetition), "a later call learned of the first");
  });
});
