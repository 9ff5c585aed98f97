-- Records the outcomes of claims. The end time identifies a claim: a row changes only if nothing
-- has claimed, resent or dropped its e-mail since. A claim that expired meanwhile (UNKNOWN) still
-- takes the outcome. The statement never waits: it returns a row that another transaction holds
-- without a state.
WITH outcome AS (
    SELECT
        given.user_id,
        given.id,
        given.claim_ends_at,
        given.state::"HeistEmailState" AS state,
        now() + make_interval(secs => given.delay_s) AS next_at,
        given.error
    FROM unnest(
        $1::integer[],
        $2::bigint[],
        $3::timestamptz[],
        $4::text[],
        $5::double precision[],
        $6::text[]
    ) AS given (user_id, id, claim_ends_at, state, delay_s, error)
),

claimed AS (
    SELECT
        note."userId",
        note."id",
        outcome.claim_ends_at,
        outcome.state,
        outcome.next_at,
        outcome.error
    FROM outcome
    INNER JOIN "HeistNotification" AS note
        ON note."userId" = outcome.user_id AND note."id" = outcome.id
    WHERE note."emailState" IN ('SENDING', 'UNKNOWN') AND note."emailAt" = outcome.claim_ends_at
),

locked AS (
    SELECT
        note."userId",
        note."id"
    FROM claimed
    INNER JOIN "HeistNotification" AS note
        ON note."userId" = claimed."userId" AND note."id" = claimed."id"
    WHERE
        note."emailState" IN ('SENDING', 'UNKNOWN')
        AND note."emailAt" = claimed.claim_ends_at
    FOR UPDATE OF note SKIP LOCKED
),

settled AS (
    UPDATE "HeistNotification" AS note
    SET
        "emailState" = CASE
            WHEN claimed.state = 'QUEUED' AND claimed.next_at > note."emailUntil" THEN 'FAILED'
            ELSE claimed.state
        END,
        "emailAt" = CASE
            WHEN claimed.state = 'UNKNOWN' THEN note."emailAt"
            WHEN claimed.state = 'QUEUED' AND claimed.next_at <= note."emailUntil"
                THEN claimed.next_at
            ELSE now()
        END,
        "emailError" = claimed.error
    FROM claimed
    INNER JOIN locked ON locked."userId" = claimed."userId" AND locked."id" = claimed."id"
    WHERE note."userId" = claimed."userId" AND note."id" = claimed."id"
    RETURNING
        note."userId",
        note."id",
        note."emailState"
)

SELECT
    claimed."userId" AS "user_id!",
    claimed."id" AS "id!",
    settled."emailState" AS "state?: EmailState",
    COALESCE(
        settled."emailState" = claimed.state
        OR settled."emailState" = 'FAILED' AND claimed.state = 'QUEUED',
        true
    ) AS "as_decided!"
FROM claimed
LEFT JOIN settled ON settled."userId" = claimed."userId" AND settled."id" = claimed."id"
