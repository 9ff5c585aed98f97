// The two streams while their servers are killed, stopped, frozen and replaced.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { HeistClient, Notification } from "../src/index.ts";
import { HeistError } from "../src/index.ts";
import { eventually, Network, unusedPort } from "./support/index.ts";
import { suite } from "./suite.ts";

const s = suite();

/** Reads a stream in the background. */
function collect<Item>(items: AsyncGenerator<Item>): Item[] {
  const collected: Item[] = [];
  void (async () => {
    for await (const item of items) collected.push(item);
  })().catch((error: unknown) => assert.fail(String(error)));
  return collected;
}

/** Tells the player so many times that they earned a token; the ids of these notifications. */
async function tell(client: HeistClient, player: number, times: number): Promise<bigint[]> {
  const before = await idsOf(player);
  const friends = await s.database.players(...Array.from({ length: times }, () => "Friend"));
  for (const referredId of friends) await client.awardToken({ referrerId: player, referredId });
  return (await idsOf(player)).slice(before.length);
}

async function idsOf(player: number): Promise<bigint[]> {
  const rows = await s.database.rows<{ id: string }>(
    `SELECT "id" FROM "HeistNotification" WHERE "userId" = $1 ORDER BY "id"`,
    [player],
  );
  return rows.map(({ id }) => BigInt(id));
}

const ids = (notifications: Notification[]) => notifications.map(({ id }) => id);

describe("notifications", () => {
  it("go on after every break, without a gap and without a repetition", async () => {
    let first = await s.serve();
    const second = await s.serve();
    const network = await Network.start(s.cleanup, second.port);
    const client = s.client([first.address, network.address], { timeoutMs: 20_000 });
    const [player] = (await s.database.players("Popular")) as [number];
    const [known] = (await tell(client, player, 1)) as [bigint];
    const received = collect(client.notifications(player, { after: known }));

    for (let round = 0; round < 3; round += 1) {
      await tell(client, player, 3);
      await first.kill();
      network.cut();
      await tell(s.client(second.address), player, 3);
      first = await s.serve({ port: first.port });
    }

    const expected = (await idsOf(player)).slice(1);
    assert.equal(expected.length, 18);
    await eventually("all have arrived", async () => received.length >= expected.length);
    assert.deepEqual(ids(received), expected);
  });

  it("begin now, and miss nothing from then on, also of a player who never had one", async () => {
    for (const hasSome of [true, false]) {
      const heist = await s.serve();
      const other = await s.serve();
      const network = await Network.start(s.cleanup, heist.port);
      const teller = s.client(other.address);
      const [player] = (await s.database.players("New")) as [number];
      if (hasSome) await tell(teller, player, 2);
      const known = (await idsOf(player)).length;
      const received = collect(s.client(network.address).notifications(player));
      await eventually("the stream is open", async () => network.connections > 0);
      // A first one that is received, unless the stream breaks before.
      await eventually("the first arrives", async () => {
        await tell(teller, player, 1);
        return received.length > 0;
      });
      network.cut();
      await tell(teller, player, 5);
      const all = (await idsOf(player)).slice(known);
      await eventually("all have arrived", async () => received.at(-1)?.id === all.at(-1));
      assert.deepEqual(ids(received), all.slice(-received.length));
    }
  });

  it("of a break before the first one are not lost either", async () => {
    const metrics = `127.0.0.1:${await unusedPort()}`;
    const heist = await s.serve({ env: { HEIST_METRICS_LISTEN: metrics } });
    const teller = s.client((await s.serve()).address);
    const [player] = (await s.database.players("Unknown")) as [number];
    const received = collect(s.client(heist.address).notifications(player));
    await eventually("the stream is open", async () => {
      const page = await (await fetch(`http://${metrics}/metrics`)).text();
      return /^heist_rpc_active_calls\{.*StreamNotifications.*\} 1$/m.test(page);
    });

    await heist.kill();
    const told = await tell(teller, player, 3);
    await s.serve({ port: heist.port });

    await eventually("all have arrived", async () => received.length >= 3);
    assert.deepEqual(ids(received), told);
  });

  it("come from the first one on where none is known", async () => {
    const client = s.client((await s.serve()).address);
    const [player] = (await s.database.players("Old")) as [number];
    const told = await tell(client, player, 3);
    const received = collect(client.notifications(player, { after: 0n }));
    await eventually("all have arrived", async () => received.length >= 3);
    told.push(...(await tell(client, player, 1)));
    await eventually("the next has arrived", async () => received.length >= 4);
    assert.deepEqual(ids(received), told);
  });

  it("leave a server that neither answers nor closes its connections", async () => {
    const frozen = await s.serve();
    const other = await s.serve();
    const [player] = (await s.database.players("Patient")) as [number];
    const teller = s.client(other.address);
    const [known] = (await tell(teller, player, 1)) as [bigint];
    const client = s.client([frozen.address, other.address]);
    const received = collect(client.notifications(player, { after: known }));
    await tell(teller, player, 1);
    await eventually("the stream is open", async () => received.length === 1);

    frozen.freeze();
    await tell(teller, player, 1);

    await eventually("the second has arrived", async () => received.length === 2);
  });

  it("end with the client", async () => {
    const client = s.client((await s.serve()).address);
    const [player] = (await s.database.players("Last")) as [number];
    const next = client.notifications(player).next();
    client.close();
    assert.deepEqual(await next, { done: true, value: undefined });
  });

  it("end with the signal, and with their loop", async () => {
    const client = s.client((await s.serve({ env: { HEIST_PLAYER_STREAM_LIMIT: "1" } })).address);
    const [player] = (await s.database.players("Leaver")) as [number];
    const [known] = (await tell(client, player, 3)) as [bigint];
    for (let visit = 0; visit < 3; visit += 1) {
      // A stream that were left open would keep the next one from beginning.
      for await (const { id } of client.notifications(player, { after: known })) {
        assert.ok(id > known);
        break;
      }
    }
    const ended = new AbortController();
    const notifications = client.notifications(player, { signal: ended.signal });
    const next = notifications.next();
    ended.abort();
    assert.deepEqual(await next, { done: true, value: undefined });
  });

  it("of nobody are refused", async () => {
    const client = s.client((await s.serve()).address);
    await assert.rejects(
      client.notifications(2_000_000_000).next(),
      (error) => error instanceof HeistError && error.refusal.reason === "USER_NOT_FOUND",
    );
  });
});

describe("points", () => {
  it("tell every heist, and to load after every break", async () => {
    const heist = await s.serve();
    const client = s.client(heist.address, { timeoutMs: 20_000 });
    const robbers = [await s.robber(client), await s.robber(client)] as const;
    const [victim] = (await s.database.players("Victim")) as [number];
    const events = collect(client.points());
    await eventually("the stream has begun", async () => events.length === 1);

    const first = await client.executeHeist({ attackerId: robbers[0], victimId: victim });
    await eventually("the heist was told", async () => events.length === 2);
    await heist.kill();
    await s.serve({ port: heist.port });
    await eventually("the next stream has begun", async () => events.length === 3);
    const second = await client.executeHeist({ attackerId: robbers[1], victimId: victim });
    await eventually("the heist was told", async () => events.length === 4);

    const told = ({ heist }: typeof first) => [
      heist!.id,
      [heist!.attackerId, heist!.attackerPointsAfter, heist!.pointsStolen],
      [heist!.victimId, heist!.victimPointsAfter, -heist!.pointsStolen],
    ];
    const plain = events.map((event) =>
      event.resync
        ? "resync"
        : [event.heistId, ...event.changes.map(({ userId, monthlyPoints, delta }) => [userId, monthlyPoints, delta])],
    );
    assert.deepEqual(plain, ["resync", told(first), "resync", told(second)]);
  });
});
