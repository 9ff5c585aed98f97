-- Changes e-mails in the states $1 to state $2, as of now. $3 selects the e-mails of one player, $4
-- the e-mails of some notifications; null selects all. Returns how many it changed.
WITH moved AS (
    UPDATE "HeistNotification" AS note
    SET
        "emailState" = $2::text::"HeistEmailState",
        "emailAt" = now(),
        -- Retries begin anew.
        "emailUntil" = NULL,
        "emailAttempts" = NULL
    WHERE
        note."emailState" IN ('QUEUED', 'FAILED', 'UNKNOWN')
        AND note."emailState" = ANY($1::text[]::"HeistEmailState"[])
        AND ($3::integer IS NULL OR note."userId" = $3)
        AND ($4::bigint[] IS NULL OR note."id" = ANY($4))
    RETURNING note."emailState"
)

SELECT count(*) FILTER (WHERE moved."emailState" = $2::text::"HeistEmailState") AS "moved!"
FROM moved
