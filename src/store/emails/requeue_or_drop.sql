-- Changes e-mails in the states $1 to state $2, as of now. $3 selects the e-mails of one player, $4
-- the e-mails of some notifications; null selects all. The statement never waits: it leaves rows
-- that another transaction holds as they are, and counts them.
WITH selected AS (
    SELECT
        note."userId",
        note."id"
    FROM "HeistNotification" AS note
    WHERE
        note."emailState" IN ('QUEUED', 'FAILED', 'UNKNOWN')
        AND note."emailState" = ANY($1::text[]::"HeistEmailState"[])
        AND ($3::integer IS NULL OR note."userId" = $3)
        AND ($4::bigint[] IS NULL OR note."id" = ANY($4))
),

locked AS (
    SELECT
        note."userId",
        note."id"
    FROM selected
    INNER JOIN "HeistNotification" AS note
        ON note."userId" = selected."userId" AND note."id" = selected."id"
    WHERE note."emailState" = ANY($1::text[]::"HeistEmailState"[])
    FOR UPDATE OF note SKIP LOCKED
),

moved AS (
    UPDATE "HeistNotification" AS note
    SET
        "emailState" = $2::text::"HeistEmailState",
        "emailAt" = now(),
        -- Retries begin anew.
        "emailUntil" = NULL,
        "emailAttempts" = NULL
    FROM locked
    WHERE note."userId" = locked."userId" AND note."id" = locked."id"
    RETURNING note."emailState" = $2::text::"HeistEmailState" AS has_moved
)

SELECT
    (SELECT count(*) FILTER (WHERE has_moved) FROM moved) AS "moved!",
    (SELECT count(*) FROM selected) - (SELECT count(*) FROM moved) AS "held!"
