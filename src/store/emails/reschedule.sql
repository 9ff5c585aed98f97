-- For up to $1 players who changed their preference, makes their queued e-mails due, so that the
-- worker schedules them again. E-mails that were attempted keep the time of their retry.
WITH pending AS (
    SELECT choice."userId"
    FROM "HeistNotificationPreference" AS choice
    WHERE choice."pending"
    ORDER BY choice."userId"
    LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
),

waiting AS (
    SELECT
        note."userId",
        note."id"
    FROM pending
    INNER JOIN "HeistNotification" AS note ON note."userId" = pending."userId"
    WHERE
        note."emailState" = 'QUEUED'
        AND note."emailAttempts" IS NULL
        AND note."emailAt" > now()
),

locked AS (
    SELECT
        note."userId",
        note."id"
    FROM waiting
    INNER JOIN "HeistNotification" AS note
        ON note."userId" = waiting."userId" AND note."id" = waiting."id"
    WHERE note."emailState" = 'QUEUED' AND note."emailAttempts" IS NULL
    FOR UPDATE OF note SKIP LOCKED
),

moved AS (
    UPDATE "HeistNotification" AS note
    SET "emailAt" = now()
    FROM locked
    WHERE note."userId" = locked."userId" AND note."id" = locked."id"
)

UPDATE "HeistNotificationPreference" AS choice
SET "pending" = false
FROM pending
WHERE
    choice."userId" = pending."userId"
    -- A player with a row that another transaction holds stays pending.
    AND (SELECT count(*) FROM waiting WHERE waiting."userId" = pending."userId")
    = (SELECT count(*) FROM locked WHERE locked."userId" = pending."userId")
