-- Locks the players whose rows no other transaction holds, until the end of the transaction. The
-- statement never waits, so transactions with players in common never deadlock, in whatever order
-- they lock. With NO KEY, other transactions can insert rows that refer to a player without
-- waiting. The result holds the last committed values.
SELECT
    "id" AS "id!",
    left(COALESCE("name", 'Player ' || "id"), 200) AS "name!",
    "monthlyPoints" AS "monthly_points!"
FROM "User"
WHERE "id" = ANY($1)
FOR NO KEY UPDATE SKIP LOCKED
