-- Marks unread notifications of player $1 as read: the ones with the ids $2, and all up to id $3.
-- Returns the written values, because a trigger may have changed them.
UPDATE "HeistNotification" AS note
SET "read" = true
WHERE
    note."userId" = $1
    AND NOT note."read"
    AND (note."id" = ANY($2) OR note."id" <= $3)
RETURNING note."read" AS "read!"
