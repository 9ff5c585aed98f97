-- Locks players until the end of the transaction, always in the order of their ids, so
-- that transactions with players in common queue and never deadlock. NO KEY: rows of other
-- tables that refer to a player need not wait. What is read is what was last committed,
-- even where the lock had to be waited for.
SELECT
    "id" AS "id!",
    left(COALESCE("name", 'Player ' || "id"), 200) AS "name!",
    "monthlyPoints" AS "monthly_points!"
FROM "User"
WHERE "id" = ANY($1)
ORDER BY "id"
FOR NO KEY UPDATE
