-- Writes everything that a batch of adjustments changes, in one statement. The accounts are
-- given as they end up: they were read and decided about under the players' locks.
WITH account AS (
    INSERT INTO "HeistToken" ("userId", "balance", "totalEarned", "totalSpent")
    SELECT
        given.user_id,
        given.balance,
        given.total_earned,
        given.total_spent
    FROM unnest(
        $2::integer[],
        $3::integer[],
        $4::integer[],
        $5::integer[]
    ) AS given (user_id, balance, total_earned, total_spent)
    ON CONFLICT ("userId") DO UPDATE
    SET
        "balance" = excluded."balance",
        "totalEarned" = excluded."totalEarned",
        "totalSpent" = excluded."totalSpent"
)

INSERT INTO "HeistTokenAdjustment" (
    "id",
    "userId",
    "delta",
    "balanceAfter",
    "actor",
    "reason",
    "requestId",
    "createdAt"
)
SELECT
    given.id,
    given.user_id,
    given.delta,
    given.balance_after,
    given.actor,
    given.reason,
    given.request_id,
    $1
FROM unnest(
    $6::bigint[],
    $7::integer[],
    $8::integer[],
    $9::integer[],
    $10::text[],
    $11::text[],
    $12::uuid[]
) AS given (id, user_id, delta, balance_after, actor, reason, request_id)
