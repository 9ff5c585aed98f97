-- A day on which everybody was referred by one player, who did nothing but rob one other.

SET session_replication_role = replica;

TRUNCATE "Heist", "HeistTokenAward", "HeistTokenAdjustment", "HeistNotification";

INSERT INTO "HeistTokenAward" ("id", "referrerId", "referredId", "balanceAfter")
SELECT number, 1, number + 1, 1
FROM generate_series(1, 10000) AS number;

INSERT INTO "HeistTokenAdjustment" ("id", "userId", "delta", "balanceAfter", "actor", "reason", "requestId")
SELECT number, 1, 1, 1, 'support', 'goodwill', gen_random_uuid()
FROM generate_series(10001, 20000) AS number;

INSERT INTO "Heist" (
    "id", "attackerId", "victimId", "pointsStolen", "attackerPointsBefore", "attackerPointsAfter",
    "victimPointsBefore", "victimPointsAfter", "attackerTokensAfter", "requestId"
)
SELECT number, 1, 2, 50, 100, 150, 1000, 950, 5, gen_random_uuid()
FROM generate_series(20001, 30000) AS number;

INSERT INTO "HeistNotification" ("userId", "type", "ledgerId", "otherUserId", "points", "after")
SELECT 1, 'HEIST_SUCCESS', number, 2, 50, 950
FROM generate_series(20001, 30000) AS number;

RESET session_replication_role;

ANALYZE;
