-- Heists with an id above $1, oldest first, each as the line of a file. The line omits the caller's
-- IP address, because nothing removes it from a file when its player is deleted.
SELECT
    heist."id" AS "id!",
    heist."createdAt" AS "created_at!",
    json_build_object(
        'id', heist."id",
        'attackerId', heist."attackerId",
        'victimId', heist."victimId",
        'pointsStolen', heist."pointsStolen",
        'attackerPointsBefore', heist."attackerPointsBefore",
        'attackerPointsAfter', heist."attackerPointsAfter",
        'victimPointsBefore', heist."victimPointsBefore",
        'victimPointsAfter', heist."victimPointsAfter",
        'attackerTokensAfter', heist."attackerTokensAfter",
        'requestId', heist."requestId",
        'createdAt', heist."createdAt"
    )::text AS "line!"
FROM "Heist" AS heist
WHERE heist."id" > $1
ORDER BY heist."id"
LIMIT $2
