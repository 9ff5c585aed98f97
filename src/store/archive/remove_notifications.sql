-- Removes notifications that are in a file, and adds them to their players' totals. $1 holds lines
-- of the file. A row is removed only if it equals its line. Returns whether the totals have grown by
-- the removed notifications, and how many rows stay although they equal their line.
WITH filed AS (
    SELECT
        (given.line ->> 'userId')::integer AS user_id,
        (given.line ->> 'id')::bigint AS id,
        (given.line ->> 'type')::"HeistNotificationType" AS notification_type,
        (given.line ->> 'ledgerId')::bigint AS ledger_id,
        (given.line ->> 'points')::integer AS points,
        (given.line ->> 'after')::integer AS after,
        (given.line ->> 'createdAt')::timestamptz AS created_at
    FROM (
        SELECT content.text::json AS line
        FROM unnest($1::text[]) AS content (text)
    ) AS given
),

removed AS (
    DELETE FROM "HeistNotification" AS note
    USING filed
    WHERE
        note."userId" = filed.user_id
        AND note."id" = filed.id
        AND note."type" = filed.notification_type
        AND note."ledgerId" = filed.ledger_id
        AND note."points" = filed.points
        AND note."after" = filed.after
        AND note."createdAt" = filed.created_at
        AND note."read"
        AND COALESCE(note."emailState", 'SENT') NOT IN ('QUEUED', 'SENDING', 'FAILED', 'UNKNOWN')
    RETURNING
        note."userId" AS user_id,
        note."id" AS id,
        note."type" AS notification_type
),

summed_up AS (
    INSERT INTO "HeistArchiveTotal" AS total (
        "userId",
        "successNotifications",
        "victimNotifications",
        "earnedNotifications"
    )
    SELECT
        removed.user_id,
        count(*) FILTER (WHERE removed.notification_type = 'HEIST_SUCCESS'),
        count(*) FILTER (WHERE removed.notification_type = 'HEIST_VICTIM'),
        count(*) FILTER (WHERE removed.notification_type = 'TOKEN_EARNED')
    FROM removed
    GROUP BY removed.user_id
    ON CONFLICT ("userId") DO UPDATE
    SET
        "successNotifications" = total."successNotifications" + excluded."successNotifications",
        "victimNotifications" = total."victimNotifications" + excluded."victimNotifications",
        "earnedNotifications" = total."earnedNotifications" + excluded."earnedNotifications"
    RETURNING
        total."successNotifications" + total."victimNotifications" + total."earnedNotifications"
            AS notifications
)

SELECT
    (SELECT count(*) FROM removed) AS "removed!",
    ARRAY(
        SELECT note."id"
        FROM filed
        INNER JOIN "HeistNotification" AS note
            ON note."userId" = filed.user_id AND note."id" = filed.id
        WHERE note."id" NOT IN (SELECT removed.id FROM removed)
    ) AS "differing_ids!",
    (
        SELECT count(*)
        FROM filed
        INNER JOIN "HeistNotification" AS note
            ON note."userId" = filed.user_id AND note."id" = filed.id
        WHERE
            note."id" NOT IN (SELECT removed.id FROM removed)
            AND note."type" = filed.notification_type
            AND note."ledgerId" = filed.ledger_id
            AND note."points" = filed.points
            AND note."after" = filed.after
            AND note."createdAt" = filed.created_at
            AND note."read"
            AND COALESCE(note."emailState", 'SENT') NOT IN ('QUEUED', 'SENDING', 'FAILED', 'UNKNOWN')
    ) AS "kept!",
    -- The subquery sees the totals before this statement, because it reads the statement's
    -- snapshot.
    (SELECT COALESCE(sum(summed_up.notifications), 0) FROM summed_up)
    = (SELECT count(*) FROM removed)
    + (
        SELECT
            COALESCE(
                sum(
                    total."successNotifications"
                    + total."victimNotifications"
                    + total."earnedNotifications"
                ),
                0
            )
        FROM "HeistArchiveTotal" AS total
        WHERE total."userId" = ANY(ARRAY(SELECT removed.user_id FROM removed))
    ) AS "totals_agree!"
