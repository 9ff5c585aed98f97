UPDATE "HeistNotification" AS note
SET "read" = true
WHERE
    note."userId" = $1
    AND NOT note."read"
    AND (note."id" = ANY($2) OR note."id" <= $3)
RETURNING note."read" AS "read!"
