-- The ids of a page of a player's heists with an id below $2, newest first. Each side contributes
-- at most one page, read as a range of its own index: see load_facts.sql.
SELECT side.id AS "id!"
FROM (
    (
        SELECT heist."id" AS id
        FROM "Heist" AS heist
        WHERE $4::boolean AND heist."attackerId" >= $1 AND (heist."attackerId", heist."id") < ($1, $2)
        ORDER BY heist."attackerId" DESC, heist."id" DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT heist."id"
        FROM "Heist" AS heist
        WHERE $5::boolean AND heist."victimId" >= $1 AND (heist."victimId", heist."id") < ($1, $2)
        ORDER BY heist."victimId" DESC, heist."id" DESC
        LIMIT $3
    )
) AS side
ORDER BY side.id DESC
LIMIT $3
