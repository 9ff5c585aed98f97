-- The first 200 due e-mails, with the facts that decide whether they can be sent now. The limit is
-- a literal, so that PostgreSQL plans for few rows and finds each player by the primary key.
SELECT
    now() AS "now!",
    note."userId" AS user_id,
    note."id",
    note."emailAt" AS "due_at!",
    note."emailAttempts" IS NOT NULL AS "attempted!",
    note."emailUntil" AS "until?",
    left(player."email", 1000) AS "address?",
    choice."email" AS "preference?: PreferenceRow"
FROM (
    SELECT
        head."userId",
        head."id",
        head."emailAt",
        head."emailAttempts",
        head."emailUntil"
    FROM "HeistNotification" AS head
    WHERE head."emailState" = 'QUEUED' AND head."emailAt" <= now()
    ORDER BY head."emailAt", head."userId", head."id"
    LIMIT 200
) AS note
INNER JOIN "User" AS player ON player."id" = note."userId"
LEFT JOIN "HeistNotificationPreference" AS choice ON choice."userId" = note."userId"
ORDER BY note."emailAt", note."userId", note."id"
