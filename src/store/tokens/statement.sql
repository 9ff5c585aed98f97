-- A page of a player's statement, newest first, of what has a ledger id below $2. Each of the
-- three kinds contributes at most a page from its own index.
SELECT
    event.ledger_id AS "ledger_id!",
    event.delta AS "delta!",
    event.balance_after AS "balance_after!",
    event.is_heist AS "is_heist!",
    event.referred_id AS "referred_id?",
    event.actor AS "actor?",
    event.reason AS "reason?",
    event.created_at AS "created_at!"
FROM (
    (
        SELECT
            award."id" AS ledger_id,
            $4::integer AS delta,
            award."balanceAfter" AS balance_after,
            false AS is_heist,
            award."referredId" AS referred_id,
            NULL AS actor,
            NULL AS reason,
            award."createdAt" AS created_at
        FROM "HeistTokenAward" AS award
        WHERE award."referrerId" = $1 AND award."id" < $2
        ORDER BY award."id" DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT
            heist."id",
            -1,
            heist."attackerTokensAfter",
            true,
            NULL,
            NULL,
            NULL,
            heist."createdAt"
        FROM "Heist" AS heist
        WHERE heist."attackerId" = $1 AND heist."id" < $2
        ORDER BY heist."id" DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT
            adjustment."id",
            adjustment."delta",
            adjustment."balanceAfter",
            false,
            NULL,
            adjustment."actor",
            adjustment."reason",
            adjustment."createdAt"
        FROM "HeistTokenAdjustment" AS adjustment
        WHERE adjustment."userId" = $1 AND adjustment."id" < $2
        ORDER BY adjustment."id" DESC
        LIMIT $3
    )
) AS event
ORDER BY event.ledger_id DESC
LIMIT $3
