-- All inconsistencies of the books but those of point events, one row each. The statement reads each
-- table once, in one snapshot and without row locks, and joins by hashing.
WITH ledger AS (
    -- All changes of balances. The archived heists of a player are one entry, with the id of the
    -- newest.
    SELECT
        award."referrerId" AS user_id,
        award."id" AS id,
        $1::integer AS delta,
        award."balanceAfter" AS balance_after,
        false AS is_archived
    FROM "HeistTokenAward" AS award
    WHERE award."referrerId" IS NOT NULL
    UNION ALL
    SELECT
        heist."attackerId",
        heist."id",
        -1,
        heist."attackerTokensAfter",
        false
    FROM "Heist" AS heist
    WHERE heist."attackerId" IS NOT NULL
    UNION ALL
    SELECT
        adjustment."userId",
        adjustment."id",
        adjustment."delta",
        adjustment."balanceAfter",
        false
    FROM "HeistTokenAdjustment" AS adjustment
    UNION ALL
    SELECT
        total."userId",
        total."lastSpendId",
        -total."heistsAsAttacker",
        total."lastSpendTokensAfter",
        true
    FROM "HeistArchiveTotal" AS total
    WHERE total."heistsAsAttacker" <> 0 OR total."lastSpendId" IS NOT NULL
),

ledger_step AS (
    SELECT
        ledger.user_id,
        ledger.id,
        ledger.delta,
        ledger.balance_after,
        ledger.is_archived,
        -- Archived heists lie between earlier entries, so only the sum of the earlier entries is
        -- known.
        CASE
            WHEN ledger.is_archived
                THEN
                    COALESCE(sum(ledger.delta) OVER (
                        PARTITION BY ledger.user_id
                        ORDER BY ledger.id
                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                    ), 0)
            ELSE lag(ledger.balance_after, 1, 0) OVER (PARTITION BY ledger.user_id ORDER BY ledger.id)
        END AS balance_before,
        max(ledger.id) FILTER (WHERE ledger.is_archived) OVER (PARTITION BY ledger.user_id) AS archived_up_to
    FROM ledger
),

ledger_sum AS (
    SELECT
        ledger.user_id,
        sum(ledger.delta) FILTER (WHERE ledger.delta > 0) AS earned,
        -sum(ledger.delta) FILTER (WHERE ledger.delta < 0) AS spent
    FROM ledger
    GROUP BY ledger.user_id
),

-- Two rows for each heist, one for each player who still exists.
side AS (
    SELECT
        heist."id" AS heist_id,
        heist."attackerId" AS user_id,
        'HEIST_SUCCESS'::"HeistNotificationType" AS notification_type,
        heist."pointsStolen" AS delta,
        heist."attackerPointsAfter" AS points_after,
        heist."createdAt" AS created_at
    FROM "Heist" AS heist
    WHERE heist."attackerId" IS NOT NULL
    UNION ALL
    SELECT
        heist."id",
        heist."victimId",
        'HEIST_VICTIM',
        -heist."pointsStolen",
        heist."victimPointsAfter",
        heist."createdAt"
    FROM "Heist" AS heist
    WHERE heist."victimId" IS NOT NULL
),

-- The notifications that must exist.
told AS (
    SELECT
        side.user_id,
        side.notification_type,
        side.heist_id AS ledger_id,
        abs(side.delta) AS points,
        side.points_after AS after,
        side.created_at
    FROM side
    UNION ALL
    SELECT
        award."referrerId",
        'TOKEN_EARNED',
        award."id",
        0,
        award."balanceAfter",
        award."createdAt"
    FROM "HeistTokenAward" AS award
    WHERE award."referrerId" IS NOT NULL
),

-- The progress of the archive.
archived AS (
    SELECT
        COALESCE(max(file."lastRowId") FILTER (WHERE file."kind" = 'heists'), 0) AS heists_up_to,
        max(file."cutoff") FILTER (WHERE file."kind" = 'notifications') AS notifications_before
    FROM "HeistArchiveFile" AS file
    WHERE file."sha256" IS NOT NULL
),

-- The archived heists and notifications of each player, by type of notification.
archived_side AS (
    SELECT
        total."userId" AS user_id,
        side.notification_type,
        side.heists,
        side.notifications
    FROM "HeistArchiveTotal" AS total
    CROSS JOIN LATERAL (
        VALUES
            (
                'HEIST_SUCCESS'::"HeistNotificationType",
                total."heistsAsAttacker",
                total."successNotifications"
            ),
            ('HEIST_VICTIM', total."heistsAsVictim", total."victimNotifications"),
            ('TOKEN_EARNED', 0, total."earnedNotifications")
    ) AS side (notification_type, heists, notifications)
),

-- For each player and type: the number of notifications that must exist, and that do exist.
notification_sum AS (
    SELECT
        entry.user_id,
        entry.notification_type,
        sum(entry.told) AS told,
        sum(entry.notifications) AS notifications
    FROM (
        SELECT
            told.user_id,
            told.notification_type,
            1 AS told,
            0 AS notifications
        FROM told
        UNION ALL
        SELECT
            note."userId",
            note."type",
            0,
            1
        FROM "HeistNotification" AS note
        UNION ALL
        SELECT
            archived_side.user_id,
            archived_side.notification_type,
            archived_side.heists,
            archived_side.notifications
        FROM archived_side
    ) AS entry
    GROUP BY entry.user_id, entry.notification_type
)

SELECT format('player %s has %s points', player."id", player."monthlyPoints") AS "finding!"
FROM "User" AS player
WHERE player."monthlyPoints" < 0

UNION ALL
SELECT
    format(
        'player %s has %s tokens, %s earned and %s spent, but the statement says %s earned and %s spent',
        COALESCE(token."userId", ledger_sum.user_id),
        COALESCE(token."balance", 0),
        COALESCE(token."totalEarned", 0),
        COALESCE(token."totalSpent", 0),
        COALESCE(ledger_sum.earned, 0),
        COALESCE(ledger_sum.spent, 0)
    )
FROM "HeistToken" AS token
FULL JOIN ledger_sum ON ledger_sum.user_id = token."userId"
WHERE
    COALESCE(token."balance", 0) < 0
    OR COALESCE(token."balance", 0) <> COALESCE(token."totalEarned", 0) - COALESCE(token."totalSpent", 0)
    OR COALESCE(token."totalEarned", 0) <> COALESCE(ledger_sum.earned, 0)
    OR COALESCE(token."totalSpent", 0) <> COALESCE(ledger_sum.spent, 0)

UNION ALL
SELECT
    format(
        'statement line %s takes player %s from %s tokens by %s to %s',
        ledger_step.id,
        ledger_step.user_id,
        ledger_step.balance_before,
        ledger_step.delta,
        ledger_step.balance_after
    )
FROM ledger_step
WHERE
    ledger_step.balance_before + ledger_step.delta IS DISTINCT FROM ledger_step.balance_after
    AND ledger_step.id >= COALESCE(ledger_step.archived_up_to, 0)

UNION ALL
SELECT
    format(
        'heist %s of %s points takes its attacker from %s to %s and its victim from %s to %s',
        heist."id",
        heist."pointsStolen",
        heist."attackerPointsBefore",
        heist."attackerPointsAfter",
        heist."victimPointsBefore",
        heist."victimPointsAfter"
    )
FROM "Heist" AS heist
WHERE
    heist."pointsStolen" <= 0
    OR heist."attackerPointsBefore" + heist."pointsStolen" <> heist."attackerPointsAfter"
    OR heist."victimPointsBefore" - heist."pointsStolen" <> heist."victimPointsAfter"
    OR heist."victimPointsAfter" < 0

UNION ALL
SELECT
    format(
        'player %s has %s notifications %s of ledger entry %s that are as they should be, not 1',
        told.user_id,
        count(note."id") FILTER (WHERE note."points" = told.points AND note."after" = told.after),
        told.notification_type,
        told.ledger_id
    )
FROM told
LEFT JOIN "HeistNotification" AS note
    ON
        note."userId" = told.user_id
        AND note."type" = told.notification_type
        AND note."ledgerId" = told.ledger_id
CROSS JOIN archived
GROUP BY told.user_id, told.notification_type, told.ledger_id
HAVING
    count(note."id") FILTER (WHERE note."points" = told.points AND note."after" = told.after) <> 1
    -- An old notification may be archived. Then the sums of its player are compared instead.
    AND NOT (
        count(note."id") = 0
        AND COALESCE(bool_or(told.created_at < archived.notifications_before), false)
    )

UNION ALL
SELECT
    format(
        'player %s has notification %s %s of ledger entry %s, which is not in the books',
        note."userId",
        note."id",
        note."type",
        note."ledgerId"
    )
FROM "HeistNotification" AS note
CROSS JOIN archived
WHERE
    NOT EXISTS (
        SELECT 1
        FROM told
        WHERE
            told.user_id = note."userId"
            AND told.notification_type = note."type"
            AND told.ledger_id = note."ledgerId"
    )
    -- An unread notification stays when its heist is archived.
    AND NOT (note."type" <> 'TOKEN_EARNED' AND note."ledgerId" <= archived.heists_up_to)

UNION ALL
SELECT
    format(
        'player %s has %s notifications %s with those archived, but the books say %s',
        notification_sum.user_id,
        notification_sum.notifications,
        notification_sum.notification_type,
        notification_sum.told
    )
FROM notification_sum
WHERE notification_sum.told <> notification_sum.notifications

UNION ALL
SELECT
    format(
        'the sequence %s is at %s, behind the row with the id %s',
        numbered.sequence,
        COALESCE(pg_sequence_last_value(numbered.sequence), 0),
        numbered.highest_id
    )
FROM (
    SELECT
        '"HeistLedger_id_seq"'::regclass AS sequence,
        max(ledger.id) AS highest_id
    FROM ledger
    UNION ALL
    SELECT
        '"HeistNotification_id_seq"'::regclass,
        max(note."id")
    FROM "HeistNotification" AS note
) AS numbered
WHERE numbered.highest_id > COALESCE(pg_sequence_last_value(numbered.sequence), 0)
