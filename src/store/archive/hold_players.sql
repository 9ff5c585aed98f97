-- Keeps players from being deleted until the end of the transaction, always in the order of their
-- ids. Heists on them go on: this lock does not conflict with theirs.
SELECT "id" AS "id!"
FROM "User"
WHERE "id" = ANY($1)
ORDER BY "id"
FOR KEY SHARE
