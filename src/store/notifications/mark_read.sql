-- Marks unread notifications of player $1 as read: the ones with the ids $2, and all up to id $3.
-- unread_after_mark.sql verifies the effect.
UPDATE "HeistNotification" AS note
SET "read" = true
WHERE
    note."userId" = $1
    AND NOT note."read"
    AND (note."id" = ANY($2) OR note."id" <= $3)
