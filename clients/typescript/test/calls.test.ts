// Calls while servers are killed, replaced, frozen, and connections lose their answers.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { DescService } from "@bufbuild/protobuf";
import { HeistService, NotificationService, TokenService } from "../src/index.ts";
import { isRepeatable } from "../src/methods.ts";
import { eventually, Network, startSilentServer, unusedPort } from "./support/index.ts";
import { suite } from "./suite.ts";

const s = suite();

/** Nothing in the rules keeps players from robbing each other all the time. */
const lawless = {
  HEIST_COOLDOWN: "0s",
  HEIST_PROTECTION_WINDOW: "0s",
  HEIST_RATE_LIMIT_PER_MINUTE: "0",
  HEIST_READ_RATE_LIMIT_PER_MINUTE: "0",
};

describe("the contract", () => {
  it("says of every RPC that it may be repeated", () => {
    const services: DescService[] = [HeistService, TokenService, NotificationService];
    for (const method of services.flatMap(({ methods }) => methods)) {
      assert.equal(isRepeatable(method), true, method.name);
    }
  });
});

describe("the rules", () => {
  it("are those in force", async () => {
    const heist = await s.serve({ env: { HEIST_STEAL_PERCENTAGE: "7", HEIST_COOLDOWN: "0s" } });
    const rules = await s.client(heist.address).getRules({});
    assert.equal(rules.enabled, true);
    assert.equal(rules.stealPercentage, 7);
    assert.equal(rules.cooldown?.seconds ?? 0n, 0n);
  });
});

describe("a heist whose answer is lost", () => {
  it("happens once, and the repeated call is answered with it", async () => {
    const heist = await s.serve();
    const network = await Network.start(s.cleanup, heist.port);
    const client = s.client(network.address, { timeoutMs: 20_000 });
    const robber = await s.robber(client, 2);
    const [victim] = (await s.database.players("Victim")) as [number];

    network.answers = false;
    const robbery = client.executeHeist({ attackerId: robber, victimId: victim });
    await eventually("the heist is committed", async () => {
      return (await s.database.rows(`SELECT FROM "Heist" WHERE "attackerId" = $1`, [robber])).length === 1;
    });
    network.answers = true;
    network.cut();

    const answer = await robbery;
    assert.equal(answer.replayed, true);
    assert.equal(answer.tokensRemaining, 1);
    assert.equal((await s.database.rows(`SELECT FROM "Heist" WHERE "attackerId" = $1`, [robber])).length, 1);
  });

  it("keeps the request id of the caller", async () => {
    const client = s.client((await s.serve()).address);
    const robber = await s.robber(client, 2);
    const [victim] = (await s.database.players("Victim")) as [number];
    const request = { attackerId: robber, victimId: victim, requestId: "0b0f8d52-7d34-4b3b-8f4e-0b2b0f8d527d" };
    assert.equal((await client.executeHeist(request)).replayed, false);
    assert.equal((await client.executeHeist(request)).replayed, true);
  });
});

describe("several servers", () => {
  it("all get calls", async () => {
    const servers = [await s.serve(), await s.serve()];
    const networks = await Promise.all(servers.map(({ port }) => Network.start(s.cleanup, port)));
    const client = s.client(networks.map(({ address }) => address));
    for (let call = 0; call < 4; call += 1) await client.getLeaderboard({});
    assert.deepEqual(networks.map(({ connections }) => connections), [1, 1]);
  });

  it("are found by a name, and ones that are away are passed over", async () => {
    const { port } = await s.serve();
    const client = s.client([`127.0.0.1:${await unusedPort()}`, `localhost:${port}`, "no-such-host.invalid:1"]);
    for (let call = 0; call < 10; call += 1) await client.getLeaderboard({});
  });

  it("make up for one that hangs", async () => {
    const silent = await startSilentServer(s.cleanup);
    const { address } = await s.serve();
    const client = s.client([`127.0.0.1:${silent.port}`, address]);
    for (let call = 0; call < 3; call += 1) await client.getLeaderboard({});
    assert.ok(silent.connections() > 0);
  });

  it("lose no call when one is killed and replaced, again and again", async () => {
    const there = await s.serve({ env: lawless });
    let here = await s.serve({ env: lawless });
    const client = s.client([here.address, there.address], { timeoutMs: 10_000 });
    const robbers = await Promise.all(Array.from({ length: 8 }, () => s.robber(client, 100)));
    const [victim] = (await s.database.players("Victim")) as [number];
    await s.database.rows(`UPDATE "User" SET "monthlyPoints" = 1000000 WHERE "id" = $1`, [victim]);

    let isOver = false;
    let done = 0;
    const robberies = Promise.all(
      robbers.map(async (attackerId) => {
        for (let count = 0; !isOver && count < 100; count += 1) {
          await client.executeHeist({ attackerId, victimId: victim });
          done += 1;
        }
      }),
    );
    for (let kill = 0; kill < 3; kill += 1) {
      const before = done;
      await eventually("heists go on", async () => done >= before + 20);
      await here.kill();
      here = await s.serve({ port: here.port, env: lawless });
    }
    isOver = true;
    await robberies;

    const [{ heists }] = (await s.database.rows(
      `SELECT count(*)::int AS heists FROM "Heist" WHERE "victimId" = $1`,
      [victim],
    )) as [{ heists: number }];
    assert.equal(heists, done, "each call that was answered is one heist, and there are no others");
  });
});

describe("one server", () => {
  it("that is stopped and replaced makes calls wait for the next one", async () => {
    const first = await s.serve();
    const client = s.client(first.address, { timeoutMs: 20_000 });
    await client.getLeaderboard({});
    await first.stop();
    const call = client.getLeaderboard({});
    await sleep(100);
    await s.serve({ port: first.port });
    await call;
  });
});
