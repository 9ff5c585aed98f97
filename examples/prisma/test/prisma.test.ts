// The application reads the heist service's tables through its own Prisma client.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, it } from "node:test";
import { PrismaPg } from "@prisma/adapter-pg";
import { HeistNotificationType, PrismaClient } from "../generated/client.ts";
import config from "../prisma.config.ts";
import { ANN, BOB, CAT, createFixture, DAN, type Fixture } from "./fixture.ts";

let fixture: Fixture;
let prisma: PrismaClient;

before(async () => {
  fixture = await createFixture();
  prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: fixture.url }) });
});
after(async () => {
  await prisma?.$disconnect();
  await fixture?.drop();
});

it("the review's leaderboard, with the token balance of each player", async () => {
  const leaderboard = await prisma.user.findMany({
    select: {
      id: true,
      name: true,
      monthlyPoints: true,
      heistToken: { select: { balance: true } },
    },
    orderBy: { monthlyPoints: "desc" },
    take: 50,
  });

  assert.deepEqual(leaderboard, [
    { id: BOB, name: "Bob", monthlyPoints: 970, heistToken: { balance: 0 } },
    { id: CAT, name: "Cat", monthlyPoints: 380, heistToken: null },
    { id: ANN, name: "Ann", monthlyPoints: 150, heistToken: { balance: 1 } },
    { id: DAN, name: "Dan", monthlyPoints: 0, heistToken: null },
  ]);
});

it("a player's heists on both sides", async () => {
  const bob = await prisma.user.findUniqueOrThrow({
    where: { id: BOB },
    include: {
      heistsAsAttacker: { include: { victim: true } },
      heistsAsVictim: { include: { attacker: true } },
    },
  });

  const [asAttacker, ...noMoreAsAttacker] = bob.heistsAsAttacker;
  assert.deepEqual(noMoreAsAttacker, []);
  assert.equal(asAttacker!.victim?.name, "Cat");
  assert.equal(asAttacker!.pointsStolen, 20);
  assert.equal(asAttacker!.attackerTokensAfter, 0);

  const [asVictim, ...noMoreAsVictim] = bob.heistsAsVictim;
  assert.deepEqual(noMoreAsVictim, []);
  assert.equal(asVictim!.attacker?.name, "Ann");
  assert.deepEqual(
    [asVictim!.victimPointsBefore, asVictim!.victimPointsAfter, asVictim!.attackerPointsAfter],
    [1000, 950, 150],
  );
  assert.ok(asVictim!.createdAt.getTime() <= asAttacker!.createdAt.getTime());
  assert.equal(typeof asVictim!.id, "bigint");
});

it("a heist by its request id, with the caller's address", async () => {
  const { rows: [written] } = await fixture.sql.query<{ requestId: string }>(
    `SELECT "requestId" FROM "Heist" WHERE "attackerId" = $1`,
    [ANN],
  );

  const heist = await prisma.heist.findUniqueOrThrow({ where: { requestId: written!.requestId } });

  assert.equal(heist.attackerId, ANN);
  assert.match(heist.ipAddress ?? "", /^127\.0\.0\.1(\/32)?$/);
});

it("tokens and where they came from", async () => {
  const ann = await prisma.user.findUniqueOrThrow({
    where: { id: ANN },
    include: {
      heistToken: true,
      heistTokenAwards: { include: { referred: { select: { name: true } } }, orderBy: { id: "asc" } },
    },
  });

  const { balance, totalEarned, totalSpent, lastEarnedAt, lastSpentAt } = ann.heistToken!;
  assert.deepEqual({ balance, totalEarned, totalSpent }, { balance: 1, totalEarned: 2, totalSpent: 1 });
  assert.ok(lastEarnedAt instanceof Date && lastSpentAt instanceof Date);
  assert.deepEqual(
    ann.heistTokenAwards.map(({ referred, referredName, balanceAfter }) => ({ referred, referredName, balanceAfter })),
    [
      { referred: { name: "Bob" }, referredName: "Bobby", balanceAfter: 1 },
      { referred: { name: "Cat" }, referredName: null, balanceAfter: 2 },
    ],
  );

  const dan = await prisma.user.findUniqueOrThrow({
    where: { id: DAN },
    select: { heistTokenAwardedFor: { select: { referrer: { select: { name: true } } } } },
  });
  assert.deepEqual(dan, { heistTokenAwardedFor: { referrer: { name: "Bob" } } });
});

it("tokens granted by hand", async () => {
  const requestId = "0198a000-0000-7000-8000-000000000001";
  await fixture.sql.query(
    `WITH granted AS (
       UPDATE "HeistToken" SET "balance" = "balance" + 2, "totalEarned" = "totalEarned" + 2
       WHERE "userId" = $1 RETURNING "balance"
     )
     INSERT INTO "HeistTokenAdjustment" ("userId", "delta", "balanceAfter", "actor", "reason", "requestId")
     SELECT $1, 2, "balance", 'support', 'a lost referral', $2 FROM granted`,
    [BOB, requestId],
  );

  const adjustment = await prisma.heistTokenAdjustment.findUniqueOrThrow({
    where: { requestId },
    include: { user: { include: { heistToken: true } } },
  });

  assert.equal(adjustment.delta, 2);
  assert.equal(adjustment.balanceAfter, adjustment.user.heistToken!.balance);
  assert.equal(adjustment.user.name, "Bob");
});

it("notifications, by type and by their two-part id", async () => {
  const bob = await prisma.user.findUniqueOrThrow({
    where: { id: BOB },
    include: { heistNotifications: { where: { read: false }, orderBy: { id: "asc" } } },
  });
  assert.deepEqual(
    bob.heistNotifications.map(({ type, otherUserId, points, after }) => ({ type, otherUserId, points, after })),
    [
      { type: "TOKEN_EARNED", otherUserId: DAN, points: 0, after: 1 },
      { type: "HEIST_VICTIM", otherUserId: ANN, points: 50, after: 950 },
      { type: "HEIST_SUCCESS", otherUserId: CAT, points: 20, after: 970 },
    ],
  );

  const robbed = await prisma.heistNotification.findFirstOrThrow({
    where: { userId: BOB, type: HeistNotificationType.HEIST_VICTIM },
  });
  const again = await prisma.heistNotification.findUniqueOrThrow({
    where: { userId_id: { userId: BOB, id: robbed.id } },
    include: { user: true },
  });
  assert.equal(again.user.name, "Bob");
  const heist = await prisma.heist.findUniqueOrThrow({ where: { id: again.ledgerId } });
  assert.equal(heist.pointsStolen, again.points);
});

it("what is left of a player who was deleted", async () => {
  const { rows: [eve] } = await fixture.sql.query<{ id: number }>(
    `INSERT INTO "User" ("name") VALUES ('Eve') RETURNING "id"`,
  );
  await fixture.sql.query(
    `INSERT INTO "HeistTokenAward" ("referrerId", "referredId", "referredName", "balanceAfter")
     VALUES ($1, $2, 'Eve', 1)`,
    [CAT, eve!.id],
  );
  await fixture.sql.query(`DELETE FROM "User" WHERE "id" = $1`, [eve!.id]);

  const award = await prisma.heistTokenAward.findFirstOrThrow({
    where: { referrerId: CAT },
    include: { referred: true },
  });

  assert.deepEqual([award.referredId, award.referred, award.referredName], [null, null, null]);
});

it("every model of schema/heist.prisma is the table that heist migrate makes", async () => {
  for (const [model, body] of modelsOf("../schema/heist.prisma")) {
    const columns = body.split("\n").flatMap(columnOf);
    const { rows } = await fixture.sql.query<Column>(
      `SELECT
         "column_name" AS name,
         "udt_name" AS type,
         "is_nullable" = 'YES' AS nullable,
         substring("column_default" FROM '^nextval.*') AS sequence
       FROM information_schema.columns
       WHERE "table_name" = $1
       ORDER BY "ordinal_position"`,
      [model],
    );
    assert.deepEqual(columns, rows, model);
  }
});

it("prisma.config.ts names everything that heist migrate makes", async () => {
  const applicationTables = ["PointEventTypeMaster", "User", "UserPointEvent"];
  const { rows: tables } = await fixture.sql.query<{ name: string }>(
    `SELECT "table_schema" || '.' || "table_name" AS name
     FROM information_schema.tables
     WHERE "table_schema" = 'public' AND "table_name" <> ALL($1)`,
    [applicationTables],
  );
  const { rows: enums } = await fixture.sql.query<{ name: string }>(
    `SELECT DISTINCT 'public.' || pg_type."typname" AS name
     FROM pg_enum INNER JOIN pg_type ON pg_type."oid" = pg_enum."enumtypid"`,
  );

  assert.deepEqual(new Set(config.tables?.external), new Set(tables.map(({ name }) => name)));
  assert.deepEqual(new Set(config.enums?.external), new Set(enums.map(({ name }) => name)));
});

it("schema/application.prisma has the indexes that heist migrate adds to User", async () => {
  const { rows } = await fixture.sql.query<{ name: string }>(
    `SELECT "indexname" AS name FROM pg_indexes WHERE "tablename" = 'User' AND "indexname" LIKE '%\\_idx'`,
  );
  const [, user] = modelsOf("../schema/application.prisma").find(([model]) => model === "User")!;
  const declared = [...user.matchAll(/@@index\(\[(.*)\]\)/g)].map(([, columns]) => {
    return `User_${columns!.split(", ").join("_")}_idx`;
  });
  assert.deepEqual(declared, rows.map(({ name }) => name));
});

interface Column {
  name: string;
  type: string;
  nullable: boolean;
  sequence: string | null;
}

/** What Prisma's types are in PostgreSQL, where an @db attribute does not say it. */
const SCALARS = new Map([
  ["Int", "int4"],
  ["BigInt", "int8"],
  ["String", "text"],
  ["Boolean", "bool"],
  ["HeistNotificationType", "HeistNotificationType"],
  ["HeistEmailState", "HeistEmailState"],
]);

/** The name and the lines of each model. */
function modelsOf(path: string): [string, string][] {
  const schema = readFileSync(new URL(path, import.meta.url), "utf8");
  const models = [...schema.matchAll(/^model (\w+) \{\n(.*?)^\}/gms)];
  assert.ok(models.length > 0, path);
  return models.map(([, model, body]) => [model!, body!]);
}

/** The column of one line of a model; none for comments, relations and indexes. */
function columnOf(line: string): Column[] {
  const [, name, scalar, optional, attributes] = /^  (\w+) +(\w+)(\??)(.*)$/.exec(line) ?? [];
  if (!name || !scalar || scalar === "User") return [];
  const native = /@db\.(\w+)/.exec(attributes!)?.[1]?.toLowerCase();
  const sequence = /dbgenerated\((".*")\)\)/.exec(attributes!)?.[1];
  return [
    {
      name,
      type: native ?? SCALARS.get(scalar) ?? assert.fail(`${name} has the unknown type ${scalar}`),
      nullable: optional === "?",
      sequence: sequence ? (JSON.parse(sequence) as string) : null,
    },
  ];
}
