-- The result is empty if the player does not exist.
SELECT (
    SELECT count(*)
    FROM "HeistNotification" AS note
    WHERE note."userId" = player."id" AND NOT note."read"
)::integer AS "unread_count!"
FROM "User" AS player
WHERE player."id" = $1
