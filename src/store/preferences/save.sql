-- Stores the e-mail preference $2 of player $1. Changes no row if the player does not exist.
INSERT INTO "HeistNotificationPreference" ("userId", "email")
SELECT
    player."id",
    $2::"HeistEmailPreference"
FROM "User" AS player
WHERE player."id" = $1
ON CONFLICT ("userId") DO UPDATE
SET
    "email" = excluded."email",
    "pending" = true,
    "updatedAt" = now()
