SELECT
    robber.heists AS "heists_as_attacker!",
    robbed.heists AS "heists_as_victim!",
    robber.points AS "points_stolen!",
    robbed.points AS "points_lost!"
FROM (
    SELECT
        count(*) AS heists,
        COALESCE(sum(heist."pointsStolen"), 0) AS points
    FROM "Heist" AS heist
    WHERE heist."attackerId" = $1
) AS robber
CROSS JOIN (
    SELECT
        count(*) AS heists,
        COALESCE(sum(heist."pointsStolen"), 0) AS points
    FROM "Heist" AS heist
    WHERE heist."victimId" = $1
) AS robbed
