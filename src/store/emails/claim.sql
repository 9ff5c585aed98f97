-- Claims up to $1 due notifications, oldest first, each as one e-mail. For a player in digest mode,
-- claims all due notifications as one e-mail. Claims expire after $2 seconds.
--
-- $3: digest is the default mode. $4: digests may be sent now. $5, $6: the window's last opening,
-- and when its digests start. Retries end $7 seconds after the first due time, for digests $8.
WITH due AS (
    SELECT
        note."userId",
        note."id",
        COALESCE(choice."email" = 'DIGEST', $3::boolean) AS digest
    FROM "HeistNotification" AS note
    LEFT JOIN "HeistNotificationPreference" AS choice ON choice."userId" = note."userId"
    WHERE
        note."emailState" = 'QUEUED'
        AND note."emailAt" <= now()
        AND choice."email" IS DISTINCT FROM 'NEVER'
        AND (
            NOT COALESCE(choice."email" = 'DIGEST', $3::boolean)
            OR (
                $4::boolean
                AND (
                    note."emailAttempts" IS NOT NULL
                    OR note."emailAt" <= $5::timestamptz
                    OR note."emailAt" = $6::timestamptz
                )
            )
        )
    ORDER BY note."emailAt", note."userId", note."id"
    LIMIT $1
    -- Never waits: a row that another transaction holds is left for the next poll.
    FOR UPDATE OF note SKIP LOCKED
),

digest_player AS (
    SELECT DISTINCT due."userId"
    FROM due
    WHERE due.digest
),

locked AS (
    SELECT
        note."userId",
        note."id"
    FROM digest_player AS player
    CROSS JOIN LATERAL (
        SELECT
            rest."userId",
            rest."id"
        FROM "HeistNotification" AS rest
        WHERE
            rest."userId" = player."userId"
            AND rest."emailState" = 'QUEUED'
            AND rest."emailAt" <= now()
            AND (
                rest."emailAttempts" IS NOT NULL
                OR rest."emailAt" <= $5::timestamptz
                OR rest."emailAt" = $6::timestamptz
            )
        FOR UPDATE SKIP LOCKED
    ) AS note
),

-- The players all of whose due rows are locked. A row that another transaction holds would go into
-- a second digest on the same day, so its player waits for the next poll.
complete AS (
    SELECT player."userId"
    FROM digest_player AS player
    CROSS JOIN LATERAL (
        SELECT count(*) AS notifications
        FROM "HeistNotification" AS rest
        WHERE
            rest."userId" = player."userId"
            AND rest."emailState" = 'QUEUED'
            AND rest."emailAt" <= now()
            AND (
                rest."emailAttempts" IS NOT NULL
                OR rest."emailAt" <= $5::timestamptz
                OR rest."emailAt" = $6::timestamptz
            )
    ) AS every
    WHERE
        every.notifications = (
            SELECT count(*) FROM locked
            WHERE locked."userId" = player."userId"
        )
),

wanted AS (
    SELECT
        due."userId",
        due."id",
        false AS digest
    FROM due
    WHERE NOT due.digest
    UNION ALL
    SELECT
        locked."userId",
        locked."id",
        true AS digest
    FROM locked
    INNER JOIN complete ON complete."userId" = locked."userId"
),

claimed AS (
    UPDATE "HeistNotification" AS note
    SET
        "emailState" = 'SENDING',
        "emailAt" = now() + make_interval(secs => $2),
        "emailUntil" = COALESCE(
            note."emailUntil",
            note."emailAt" + make_interval(
                secs => CASE
                    WHEN wanted.digest THEN $8::double precision
                    ELSE $7::double precision
                END
            )
        ),
        "emailAttempts" = COALESCE(note."emailAttempts", 0) + 1
    FROM wanted
    WHERE note."userId" = wanted."userId" AND note."id" = wanted."id"
    RETURNING
        note."userId",
        note."id",
        note."type",
        note."read",
        note."ledgerId",
        note."otherUserId",
        note."points",
        note."after",
        note."protectionEndsAt",
        note."createdAt",
        note."emailAt",
        note."emailAttempts",
        note."emailTrace",
        note."emailState" = 'SENDING'
        AND note."emailAt" = now() + make_interval(secs => $2) AS is_claimed
)

-- One row for each wanted e-mail. An e-mail that was not updated has no columns of a claim.

SELECT
    wanted."userId" AS "user_id!",
    wanted."id" AS "id!",
    wanted.digest AS "digest!",
    left(COALESCE(player."name", 'Player ' || player."id"), 200) AS "user_name!",
    left(player."email", 1000) AS "email?",
    claimed.is_claimed AS "is_claimed?",
    claimed."emailAt" AS "claim_ends_at?",
    claimed."emailAttempts" AS "attempts?",
    claimed."emailTrace" AS "trace_parent?",
    claimed."type" AS "notification_type?: NotificationType",
    claimed."read" AS "read?",
    claimed."ledgerId" AS "ledger_id?",
    claimed."otherUserId" AS "other_user_id?",
    left(COALESCE(award."referredName", other."name", 'Player ' || other."id"), 200) AS "other_name?",
    claimed."points" AS "points?",
    claimed."after" AS "after?",
    claimed."protectionEndsAt" AS "protection_ends_at?",
    claimed."createdAt" AS "created_at?"
FROM wanted
INNER JOIN "User" AS player ON player."id" = wanted."userId"
LEFT JOIN claimed ON claimed."userId" = wanted."userId" AND claimed."id" = wanted."id"
LEFT JOIN "HeistTokenAward" AS award
    ON award."id" = claimed."ledgerId" AND claimed."type" = 'TOKEN_EARNED'
LEFT JOIN "Heist" AS heist
    ON heist."id" = claimed."ledgerId" AND claimed."type" <> 'TOKEN_EARNED'
-- As in ../notifications/page.sql: the id of a deleted player may be another player's now.
LEFT JOIN "User" AS other
    ON
        other."id" = CASE
            WHEN award."id" IS NOT NULL THEN award."referredId"
            -- The heist is archived, or the award is gone.
            WHEN heist."id" IS NULL THEN claimed."otherUserId"
            WHEN claimed."type" = 'HEIST_SUCCESS' THEN heist."victimId"
            ELSE heist."attackerId"
        END
ORDER BY wanted."userId", wanted."id"
