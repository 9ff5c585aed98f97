-- A year of heists: $HEISTS heists of players 1 to $PLAYERS, each with its two point events and two
-- notifications, half of which are read. The books are in order afterwards.
INSERT INTO "Heist" (
    "attackerId",
    "victimId",
    "pointsStolen",
    "attackerPointsBefore",
    "attackerPointsAfter",
    "victimPointsBefore",
    "victimPointsAfter",
    "attackerTokensAfter",
    "requestId",
    "createdAt"
)
SELECT
    heist.attacker,
    1 + heist.attacker % $PLAYERS,
    50,
    1000,
    1050,
    1000,
    950,
    1000000 - row_number() OVER (PARTITION BY heist.attacker ORDER BY heist.number),
    gen_random_uuid(),
    now() - interval '367 days' + heist.number * interval '365 days' / $HEISTS
FROM (
    SELECT
        number,
        1 + (number * 7919::bigint % $PLAYERS)::integer AS attacker
    FROM generate_series(1, $HEISTS) AS number
) AS heist
ORDER BY heist.number;

INSERT INTO "HeistNotification"
    ("userId", "type", "read", "ledgerId", "otherUserId", "points", "after", "createdAt")
SELECT
    side.user_id,
    side.type::"HeistNotificationType",
    heist."id" % 2 = 0,
    heist."id",
    side.other_id,
    50,
    side.after,
    heist."createdAt"
FROM "Heist" AS heist
CROSS JOIN LATERAL (
    VALUES
        ('HEIST_SUCCESS', heist."attackerId", heist."victimId", 1050),
        ('HEIST_VICTIM', heist."victimId", heist."attackerId", 950)
) AS side (type, user_id, other_id, after)
ORDER BY heist."id";

INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId", "description", "createdAt")
SELECT
    side.user_id,
    side.points,
    event_type."id",
    'a year of the books',
    heist."createdAt"
FROM "Heist" AS heist
CROSS JOIN LATERAL (
    VALUES
        ('HEIST_GAIN', heist."attackerId", 50),
        ('HEIST_LOSS', heist."victimId", -50)
) AS side (type, user_id, points)
INNER JOIN "PointEventTypeMaster" AS event_type ON event_type."name" = side.type
ORDER BY heist."id";

UPDATE "HeistToken" AS token
SET
    "balance" = token."balance" - spent.tokens,
    "totalSpent" = spent.tokens
FROM (
    SELECT
        heist."attackerId" AS user_id,
        count(*) AS tokens
    FROM "Heist" AS heist
    GROUP BY heist."attackerId"
) AS spent
WHERE token."userId" = spent.user_id;
