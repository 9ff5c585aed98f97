-- A page of a player's statement, newest first, with ledger ids below $2. Each of the three kinds of
-- events contributes at most one page, read as a range of its own index: see ../heists/load_facts.sql.
-- If heists of the player were archived, the statement begins after the newest archived one, with a
-- line that carries the balance forward.
WITH carried_forward AS (
    SELECT
        total."lastSpendId" AS ledger_id,
        total."lastSpendTokensAfter" AS balance,
        total."lastSpendAt" AS created_at
    FROM "HeistArchiveTotal" AS total
    WHERE total."userId" = $1 AND total."lastSpendId" IS NOT NULL
)

SELECT
    event.ledger_id AS "ledger_id!",
    event.delta AS "delta!",
    event.balance_after AS "balance_after!",
    event.kind AS "kind!",
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
            'referral' AS kind,
            award."referredId" AS referred_id,
            NULL AS actor,
            NULL AS reason,
            award."createdAt" AS created_at
        FROM "HeistTokenAward" AS award
        WHERE
            (award."referrerId", award."id") < ($1, $2)
            AND (award."referrerId", award."id")
            > ($1, COALESCE((SELECT carried_forward.ledger_id FROM carried_forward), 0))
        ORDER BY award."referrerId" DESC, award."id" DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT
            heist."id",
            -1,
            heist."attackerTokensAfter",
            'heist',
            NULL,
            NULL,
            NULL,
            heist."createdAt"
        FROM "Heist" AS heist
        WHERE
            (heist."attackerId", heist."id") < ($1, $2)
            AND (heist."attackerId", heist."id")
            > ($1, COALESCE((SELECT carried_forward.ledger_id FROM carried_forward), 0))
        ORDER BY heist."attackerId" DESC, heist."id" DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT
            adjustment."id",
            adjustment."delta",
            adjustment."balanceAfter",
            'adjustment',
            NULL,
            adjustment."actor",
            adjustment."reason",
            adjustment."createdAt"
        FROM "HeistTokenAdjustment" AS adjustment
        WHERE
            (adjustment."userId", adjustment."id") < ($1, $2)
            AND (adjustment."userId", adjustment."id")
            > ($1, COALESCE((SELECT carried_forward.ledger_id FROM carried_forward), 0))
        ORDER BY adjustment."userId" DESC, adjustment."id" DESC
        LIMIT $3
    )
    UNION ALL
    SELECT
        carried_forward.ledger_id,
        carried_forward.balance,
        carried_forward.balance,
        'carried forward',
        NULL,
        NULL,
        NULL,
        carried_forward.created_at
    FROM carried_forward
    WHERE carried_forward.ledger_id < $2
) AS event
ORDER BY event.ledger_id DESC
LIMIT $3
