-- Read notifications with an id above $1, oldest first, each as the line of a file. Omits
-- notifications whose e-mail is queued, claimed or parked.
SELECT
    note."id" AS "id!",
    note."createdAt" AS "created_at!",
    json_build_object(
        'userId', note."userId",
        'id', note."id",
        'type', note."type",
        'read', note."read",
        'ledgerId', note."ledgerId",
        'otherUserId', note."otherUserId",
        'points', note."points",
        'after', note."after",
        'protectionEndsAt', note."protectionEndsAt",
        'createdAt', note."createdAt",
        'emailState', note."emailState",
        'emailAt', note."emailAt",
        'emailUntil', note."emailUntil",
        'emailAttempts', note."emailAttempts",
        'emailError', note."emailError",
        'emailTrace', note."emailTrace"
    )::text AS "line!"
FROM "HeistNotification" AS note
WHERE
    note."read"
    AND note."id" > $1
    AND COALESCE(note."emailState", 'SENT') NOT IN ('QUEUED', 'SENDING', 'FAILED', 'UNKNOWN')
ORDER BY note."id"
LIMIT $2
