-- Locks players against deletion until the end of the transaction, in the order of their ids. This
-- lock does not conflict with the locks of heists.
SELECT "id" AS "id!"
FROM "User"
WHERE "id" = ANY($1)
ORDER BY "id"
FOR KEY SHARE
