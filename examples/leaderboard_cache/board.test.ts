// The same tests as in tests/it/rpc/heists/watch_points.rs: what the copy knows, and that it is right after load
// through two servers.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { createHeistClient, type HeistClient, type PointsEvent } from "heist-client";
import { Cleanup, eventually, Heist, TestDatabase } from "../../clients/typescript/test/support/index.ts";
import { Board } from "./board.ts";
import { keepBoard } from "./cache.ts";

/** What a heist that moved so many points is told as. */
function moved(heistId: bigint, attacker: [number, number], victim: [number, number], points: number): PointsEvent {
  const change = ([userId, monthlyPoints]: [number, number], delta: number) => {
    return { $typeName: "heist.v1.PointsChange" as const, userId, monthlyPoints, delta };
  };
  return { resync: false, heistId, changes: [change(attacker, points), change(victim, -points)] };
}

/** A board of three with players 1, 2 and 3, and somebody behind it. */
function boardOfThree(): Board {
  const board = new Board(3);
  const entry = (userId: number, monthlyPoints: number) => ({ userId, name: `Player ${userId}`, monthlyPoints });
  assert.ok(board.load([entry(1, 300), entry(2, 200), entry(3, 100)]));
  return board;
}

describe("the copy", () => {
  const order = (board: Board) => board.places.map(({ userId }) => userId);

  it("knows what it cannot know", () => {
    let board = boardOfThree();
    // Two players of the board pass each other.
    assert.equal(board.apply(moved(10n, [2, 310], [1, 190], 110)), "changed");
    assert.deepEqual(order(board), [2, 1, 3]);
    // A change that was overtaken by the one before.
    assert.equal(board.apply(moved(9n, [1, 999], [2, 0], 1)), "nothing");
    assert.deepEqual(order(board), [2, 1, 3]);
    // Two players far behind rob each other.
    assert.equal(board.apply(moved(11n, [8, 60], [9, 40], 10)), "nothing");
    // Among equals the higher id is first.
    assert.equal(board.apply(moved(12n, [2, 190], [8, 99], 1)), "changed");
    assert.deepEqual(order(board), [2, 1, 3]);
    // The last place may belong to another player now.
    assert.equal(board.apply(moved(13n, [8, 99], [3, 99], 1)), "reload");

    // A player enters, whose name the copy does not know.
    board = boardOfThree();
    assert.equal(board.apply(moved(10n, [8, 100], [9, 40], 10)), "reload");
    assert.equal(boardOfThree().apply({ resync: true }), "reload");
  });
});

describe("copies of two servers", () => {
  const PLACES = 15;
  const HEISTS = 10;
  const cleanup = new Cleanup();
  let clients: HeistClient[];
  let players: number[];

  before(async () => {
    const database = await TestDatabase.create(cleanup);
    const env = {
      HEIST_COOLDOWN: "0s",
      HEIST_PROTECTION_WINDOW: "0s",
      HEIST_RATE_LIMIT_PER_MINUTE: "0",
      HEIST_READ_RATE_LIMIT_PER_MINUTE: "0",
    };
    const servers = [await Heist.start(cleanup, database, { env }), await Heist.start(cleanup, database, { env })];
    clients = servers.map(({ address }) => createHeistClient({ addresses: address, timeoutMs: 30_000 }));
    cleanup.add(() => clients.forEach((client) => client.close()));
    players = await database.players(...Array.from({ length: 30 }, (_, index) => `Player ${index}`));
    await database.rows(`UPDATE "User" SET "monthlyPoints" = 2000 + 1000 * ("id" % 3)`);
    await Promise.all(
      players.map((userId) => clients[0]!.adjustBalance({ userId, delta: HEISTS, reason: "for the test" })),
    );
  });
  after(() => cleanup.run());

  it("are right after load through both", async () => {
    const stopping = new AbortController();
    const copies = clients.map((client) => {
      const copy = { board: new Board(PLACES), changes: 0 };
      const kept = keepBoard(
        client,
        PLACES,
        (board) => {
          copy.board = board;
          copy.changes += 1;
        },
        stopping.signal,
      );
      cleanup.add(() => kept);
      return copy;
    });
    cleanup.add(() => stopping.abort());

    await Promise.all(
      players.map(async (attackerId, index) => {
        for (let turn = 0; turn < HEISTS; turn += 1) {
          const victimId = players[(index + 1 + Math.floor(Math.random() * (players.length - 1))) % players.length]!;
          await clients[turn % 2]!.executeHeist({ attackerId, victimId });
        }
      }),
    );

    const now = new Board(PLACES);
    now.load((await clients[0]!.getLeaderboard({ pageSize: PLACES })).entries);
    for (const copy of copies) {
      await eventually("the copy is the board", async () => {
        return JSON.stringify(copy.board.places) === JSON.stringify(now.places);
      });
      assert.ok(copy.changes > 1, "it followed the load");
    }
  });
});
