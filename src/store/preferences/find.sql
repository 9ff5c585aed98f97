-- The e-mail preference of player $1. Returns no row if the player does not exist.
SELECT choice."email" AS "email: PreferenceRow"
FROM "User" AS player
LEFT JOIN "HeistNotificationPreference" AS choice ON choice."userId" = player."id"
WHERE player."id" = $1
