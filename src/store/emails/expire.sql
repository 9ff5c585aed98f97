-- Parks e-mails with expired claims, and queued e-mails that have been due for $1 seconds.
WITH lost AS (
    SELECT
        note."userId",
        note."id"
    FROM "HeistNotification" AS note
    WHERE note."emailState" = 'SENDING' AND note."emailAt" < now()
    ORDER BY note."emailAt"
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
),

late AS (
    SELECT
        note."userId",
        note."id"
    FROM "HeistNotification" AS note
    WHERE
        note."emailState" = 'QUEUED'
        AND note."emailAt" < now() - make_interval(secs => $1)
    ORDER BY note."emailAt"
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
),

expired AS (
    SELECT
        lost."userId",
        lost."id"
    FROM lost
    UNION ALL
    SELECT
        late."userId",
        late."id"
    FROM late
)

UPDATE "HeistNotification" AS note
SET
    "emailState" = CASE note."emailState" WHEN 'SENDING' THEN 'UNKNOWN' ELSE 'FAILED' END::"HeistEmailState",
    "emailAt" = CASE note."emailState" WHEN 'SENDING' THEN note."emailAt" ELSE now() END,
    "emailError" = CASE note."emailState"
        WHEN 'SENDING' THEN 'the claim expired before an outcome was recorded'
        ELSE 'no attempt was possible within the time limit'
    END
FROM expired
WHERE note."userId" = expired."userId" AND note."id" = expired."id"
RETURNING
    note."userId" AS user_id,
    note."id",
    note."emailState" AS "state!: EmailState"
