-- Up to $4 of a player's notifications, newest first: the oldest ones with an id above $3 if $5 is
-- true, otherwise the newest ones with an id below $3. Names are the current ones. The heist or award
-- says whether the other player still exists: the application may have given a deleted player's id to
-- another player.
WITH note AS (
    (
        SELECT
            older."id",
            older."type",
            older."read",
            older."ledgerId",
            older."otherUserId",
            older."points",
            older."after",
            older."protectionEndsAt",
            older."createdAt"
        FROM "HeistNotification" AS older
        WHERE
            NOT $5::boolean
            AND older."userId" = $1
            AND older."id" < $3
            AND (NOT $2::boolean OR NOT older."read")
        ORDER BY older."id" DESC
        LIMIT $4
    )
    UNION ALL
    (
        SELECT
            newer."id",
            newer."type",
            newer."read",
            newer."ledgerId",
            newer."otherUserId",
            newer."points",
            newer."after",
            newer."protectionEndsAt",
            newer."createdAt"
        FROM "HeistNotification" AS newer
        WHERE
            $5::boolean
            AND newer."userId" = $1
            AND newer."id" > $3
            AND (NOT $2::boolean OR NOT newer."read")
        ORDER BY newer."id"
        LIMIT $4
    )
)

SELECT
    note."id" AS "id!",
    note."type" AS "notification_type!: NotificationType",
    note."read" AS "read!",
    note."ledgerId" AS "ledger_id!",
    note."otherUserId" AS "other_user_id!",
    left(COALESCE(award."referredName", other."name", 'Player ' || other."id"), 200) AS "other_name?",
    note."points" AS "points!",
    note."after" AS "after!",
    note."protectionEndsAt" AS "protection_ends_at?",
    note."createdAt" AS "created_at!"
FROM note
LEFT JOIN "HeistTokenAward" AS award
    ON award."id" = note."ledgerId" AND note."type" = 'TOKEN_EARNED'
LEFT JOIN "Heist" AS heist
    ON heist."id" = note."ledgerId" AND note."type" <> 'TOKEN_EARNED'
LEFT JOIN "User" AS other
    ON
        other."id" = CASE
            WHEN award."id" IS NOT NULL THEN award."referredId"
            -- The heist is archived, or the award is gone.
            WHEN heist."id" IS NULL THEN note."otherUserId"
            WHEN note."type" = 'HEIST_SUCCESS' THEN heist."victimId"
            ELSE heist."attackerId"
        END
ORDER BY note."id" DESC
