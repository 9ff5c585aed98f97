-- Stores the e-mail preference $2 of player $1. Returns whether there is such a player, and whether
-- the row holds what was given. The lock waits for a transaction that deletes the player, and does
-- not conflict with transactions that change points.
WITH player AS (
    SELECT "id"
    FROM "User"
    WHERE "id" = $1
    FOR KEY SHARE
),

stored AS (
    INSERT INTO "HeistNotificationPreference" ("userId", "email")
    SELECT
        player."id",
        $2::"HeistEmailPreference"
    FROM player
    ON CONFLICT ("userId") DO UPDATE
    SET
        "email" = excluded."email",
        "pending" = true,
        "updatedAt" = now()
    RETURNING "email", "pending"
)

SELECT
    EXISTS (SELECT 1 FROM player) AS "player_exists!",
    EXISTS (
        SELECT 1
        FROM stored
        WHERE stored."email" IS NOT DISTINCT FROM $2::"HeistEmailPreference" AND stored."pending"
    ) AS "is_stored!",
    -- A trigger can change the row after this statement has returned it.
    EXISTS (
        SELECT 1
        FROM pg_trigger AS foreign_trigger
        WHERE
            foreign_trigger.tgrelid = '"HeistNotificationPreference"'::regclass
            AND NOT foreign_trigger.tgisinternal
            AND foreign_trigger.tgenabled <> 'D'
    ) AS "has_foreign_triggers!"
