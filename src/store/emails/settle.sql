-- Records the outcomes of claims. The end time identifies a claim: a row changes only if nothing has
-- claimed, resent or dropped its e-mail since. A claim that expired meanwhile (UNKNOWN) still takes
-- the outcome.
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
)

UPDATE "HeistNotification" AS note
SET
    "emailState" = CASE
        WHEN outcome.state = 'QUEUED' AND outcome.next_at > note."emailUntil" THEN 'FAILED'
        ELSE outcome.state
    END,
    "emailAt" = CASE
        WHEN outcome.state = 'UNKNOWN' THEN note."emailAt"
        WHEN outcome.state = 'QUEUED' AND outcome.next_at <= note."emailUntil" THEN outcome.next_at
        ELSE now()
    END,
    "emailError" = outcome.error
FROM outcome
WHERE
    note."userId" = outcome.user_id
    AND note."id" = outcome.id
    AND note."emailState" IN ('SENDING', 'UNKNOWN')
    AND note."emailAt" = outcome.claim_ends_at
RETURNING
    note."userId" AS user_id,
    note."id",
    note."emailState" AS "state!: EmailState"
