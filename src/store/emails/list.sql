-- Lists up to $3 e-mails in the states $1, of player $2 or of all players, ordered by their time.
SELECT
    note."userId" AS user_id,
    note."id",
    note."type"::text AS "notification_type!",
    note."emailState" AS "state!: EmailState",
    note."emailAt" AS "at!",
    COALESCE(note."emailAttempts", 0) AS "attempts!",
    choice."email"::text AS preference,
    note."emailError" AS error
FROM "HeistNotification" AS note
LEFT JOIN "HeistNotificationPreference" AS choice ON choice."userId" = note."userId"
WHERE
    note."emailState" IN ('QUEUED', 'SENDING', 'FAILED', 'UNKNOWN')
    AND note."emailState" = ANY($1::text[]::"HeistEmailState"[])
    AND ($2::integer IS NULL OR note."userId" = $2)
ORDER BY note."emailAt", note."userId", note."id"
LIMIT $3
