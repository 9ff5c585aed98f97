-- The e-mail preference of player $1. No row: there is no such player.
SELECT choice."email" AS "email: PreferenceRow"
FROM "User" AS player
LEFT JOIN "HeistNotificationPreference" AS choice ON choice."userId" = player."id"
WHERE player."id" = $1
