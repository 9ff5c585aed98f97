-- A hundred thousand players, a million heists between them and two million notifications:
-- numbers like those of the real thing, as fast as they can be written. What rows mean to each
-- other does not matter here, only how many there are and how they are spread.

-- No foreign keys are followed, nothing is written ahead, and indexes are built at the end.
SET session_replication_role = replica;
SET maintenance_work_mem = '256MB';
SET max_parallel_maintenance_workers = 1;

ALTER TABLE "Heist" SET UNLOGGED;
ALTER TABLE "HeistNotification" SET UNLOGGED;
ALTER TABLE "HeistToken" SET UNLOGGED;
ALTER TABLE "HeistTokenAward" SET UNLOGGED;
ALTER TABLE "HeistTokenAdjustment" SET UNLOGGED;
ALTER TABLE "UserPointEvent" SET UNLOGGED;

CREATE TEMPORARY TABLE later AS
SELECT
    1 AS step,
    format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS remove,
    format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS restore
FROM pg_constraint
WHERE
    contype IN ('p', 'c')
    AND connamespace = 'public'::regnamespace
    AND (conrelid::regclass::text LIKE '"Heist%' OR conrelid::regclass::text = '"UserPointEvent"')
UNION ALL
SELECT
    2,
    format('DROP INDEX %s', indexrelid::regclass),
    pg_get_indexdef(indexrelid)
FROM pg_index
INNER JOIN pg_class ON pg_class.oid = pg_index.indrelid
WHERE
    NOT indisprimary
    AND pg_class.relnamespace = 'public'::regnamespace
    AND (indrelid::regclass::text LIKE '"Heist%' OR indrelid::regclass::text IN ('"User"', '"UserPointEvent"'));

DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN SELECT remove FROM later LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

INSERT INTO "User" ("name", "monthlyPoints")
SELECT 'Player ' || number, (random() * 5000)::integer
FROM generate_series(1, 100000) AS number;

INSERT INTO "HeistToken" ("userId", "balance", "totalEarned", "totalSpent", "lastSpentAt")
SELECT number, 5, 15, 10, now() - random() * interval '90 days'
FROM generate_series(1, 100000) AS number;

INSERT INTO "HeistTokenAward" ("id", "referrerId", "referredId", "balanceAfter")
SELECT number, 1 + (number * 7919::bigint) % 100000, number, 1
FROM generate_series(1, 100000) AS number;

INSERT INTO "HeistTokenAdjustment" ("id", "userId", "delta", "balanceAfter", "actor", "reason", "requestId")
SELECT number, 1 + (number * 6007::bigint) % 100000, 1, 1, 'support', 'goodwill', gen_random_uuid()
FROM generate_series(100001, 200000) AS number;

INSERT INTO "Heist" (
    "id", "attackerId", "victimId", "pointsStolen", "attackerPointsBefore", "attackerPointsAfter",
    "victimPointsBefore", "victimPointsAfter", "attackerTokensAfter", "requestId", "createdAt"
)
SELECT
    number,
    1 + (number * 7919::bigint) % 100000,
    1 + (number * 7919::bigint + 1 + number / 100000) % 100000,
    50, 100, 150, 1000, 950, 5,
    md5(number::text)::uuid,
    now() - (1200001 - number) * interval '1 second'
FROM generate_series(200001, 1200000) AS number;

INSERT INTO "HeistNotification" ("userId", "id", "type", "read", "ledgerId", "otherUserId", "points", "after", "emailState", "emailAt")
SELECT
    1 + (number * 7919::bigint) % 100000,
    number,
    CASE WHEN number % 2 = 0 THEN 'HEIST_SUCCESS' ELSE 'HEIST_VICTIM' END::"HeistNotificationType",
    number < 1600000,
    200000 + (number + 1) / 2,
    1 + (number * 6007::bigint) % 100000,
    50,
    950,
    -- Some are still to be sent, some are parked, and most are done with.
    CASE
        WHEN number > 1990000 THEN 'QUEUED'
        WHEN number % 1000 = 0 THEN 'FAILED'
        ELSE 'SENT'
    END::"HeistEmailState",
    now() - (2000001 - number) * interval '1 second'
FROM generate_series(1, 2000000) AS number;

INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId")
SELECT 1 + (number * 7919::bigint) % 100000, 50, 1
FROM generate_series(1, 200000) AS number;

DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN SELECT restore FROM later ORDER BY step LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

RESET session_replication_role;
