-- Read notifications with an id above $1, oldest first, each as the line of a file.
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
        'createdAt', note."createdAt"
    )::text AS "line!"
FROM "HeistNotification" AS note
WHERE note."read" AND note."id" > $1
ORDER BY note."id"
LIMIT $2
