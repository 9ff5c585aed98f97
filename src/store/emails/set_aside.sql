-- Sets due e-mails aside that cannot be sent now. $4 is the new state, $5 the new due time or null
-- for now, $6 the reason. If an e-mail has no time limit for retries, the limit becomes $7 seconds
-- after the new due time. An e-mail stays as it is if its due time is no longer $3, or if another
-- transaction holds it.
WITH given AS (
    SELECT
        each_email.user_id,
        each_email.id,
        each_email.due_at,
        each_email.state::"HeistEmailState" AS state,
        each_email.next_at,
        each_email.reason
    FROM unnest(
        $1::integer[],
        $2::bigint[],
        $3::timestamptz[],
        $4::text[],
        $5::timestamptz[],
        $6::text[]
    ) AS each_email (user_id, id, due_at, state, next_at, reason)
),

locked AS (
    SELECT
        note."userId",
        note."id",
        given.state,
        given.next_at,
        given.reason
    FROM given
    INNER JOIN "HeistNotification" AS note
        ON note."userId" = given.user_id AND note."id" = given.id
    WHERE note."emailState" = 'QUEUED' AND note."emailAt" = given.due_at
    FOR UPDATE OF note SKIP LOCKED
)

UPDATE "HeistNotification" AS note
SET
    "emailState" = locked.state,
    "emailAt" = COALESCE(locked.next_at, now()),
    "emailUntil" = COALESCE(note."emailUntil", locked.next_at + make_interval(secs => $7)),
    "emailError" = COALESCE(locked.reason, note."emailError")
FROM locked
WHERE note."userId" = locked."userId" AND note."id" = locked."id"
RETURNING
    note."userId" AS user_id,
    note."id",
    note."emailState" AS "state!: EmailState"
