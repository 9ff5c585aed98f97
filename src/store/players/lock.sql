-- Locks the players whose rows are free until the end of the transaction. It never waits, so
-- transactions with players in common never deadlock, whatever the order of their ids. NO KEY: rows
-- of other tables that refer to a player need not wait. What is read is what was last committed.
SELECT
    "id" AS "id!",
    left(COALESCE("name", 'Player ' || "id"), 200) AS "name!",
    "monthlyPoints" AS "monthly_points!"
FROM "User"
WHERE "id" = ANY($1)
FOR NO KEY UPDATE SKIP LOCKED
