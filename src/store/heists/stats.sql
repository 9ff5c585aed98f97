-- The counts and sums of a player's heists on both sides, including the archived heists.
SELECT
    robber.heists + COALESCE(archived."heistsAsAttacker", 0) AS "heists_as_attacker!",
    robbed.heists + COALESCE(archived."heistsAsVictim", 0) AS "heists_as_victim!",
    robber.points + COALESCE(archived."pointsStolen", 0) AS "points_stolen!",
    robbed.points + COALESCE(archived."pointsLost", 0) AS "points_lost!"
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
LEFT JOIN "HeistArchiveTotal" AS archived ON archived."userId" = $1
