-- The heists with one of the ids $1 or request ids $2.
SELECT
    heist."id" AS "id!",
    heist."attackerId" AS "attacker_id?",
    left(COALESCE(attacker."name", 'Player ' || attacker."id"), 200) AS "attacker_name?",
    heist."attackerPointsBefore" AS "attacker_points_before!",
    heist."attackerPointsAfter" AS "attacker_points_after!",
    heist."victimId" AS "victim_id?",
    left(COALESCE(victim."name", 'Player ' || victim."id"), 200) AS "victim_name?",
    heist."victimPointsBefore" AS "victim_points_before!",
    heist."victimPointsAfter" AS "victim_points_after!",
    heist."pointsStolen" AS "points_stolen!",
    heist."attackerTokensAfter" AS "tokens_remaining!",
    heist."requestId" AS "request_id!",
    heist."createdAt" AS "created_at!"
FROM "Heist" AS heist
LEFT JOIN "User" AS attacker ON attacker."id" = heist."attackerId"
LEFT JOIN "User" AS victim ON victim."id" = heist."victimId"
WHERE heist."id" = ANY($1) OR heist."requestId" = ANY($2)
