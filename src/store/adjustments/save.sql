-- Writes all changes of a batch of adjustments in one statement. The given accounts hold the values
-- after the last adjustment of the batch: they were read and decided under the players' locks.
-- Returns the written values, so that the caller can compare them with the decision.
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
    RETURNING "userId", "balance"
),

adjustment AS (
    SELECT
        given.id,
        given.user_id,
        given.delta,
        given.balance_after,
        given.actor,
        given.reason,
        given.request_id
    FROM unnest(
        $6::bigint[],
        $7::integer[],
        $8::integer[],
        $9::integer[],
        $10::text[],
        $11::text[],
        $12::uuid[]
    ) AS given (id, user_id, delta, balance_after, actor, reason, request_id)
),

recorded_adjustments AS (
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
        adjustment.id,
        adjustment.user_id,
        adjustment.delta,
        adjustment.balance_after,
        adjustment.actor,
        adjustment.reason,
        adjustment.request_id,
        $1
    FROM adjustment
    RETURNING "id", "userId", "delta", "balanceAfter", ctid
)

SELECT
    written.user_ids AS "account_user_ids!",
    written.balances AS "account_balances!",
    -- A row is returned only if it holds the given values.
    ARRAY(
        SELECT recorded.ctid::text
        FROM recorded_adjustments AS recorded
        INNER JOIN adjustment
            ON
                adjustment.id = recorded."id"
                AND adjustment.user_id = recorded."userId"
                AND adjustment.delta = recorded."delta"
                AND adjustment.balance_after = recorded."balanceAfter"
    ) AS "adjustments!",
    -- A trigger can change rows after this statement has returned them.
    EXISTS (
        SELECT 1
        FROM pg_trigger AS foreign_trigger
        WHERE
            foreign_trigger.tgrelid IN (
                '"HeistToken"'::regclass,
                '"HeistTokenAdjustment"'::regclass
            )
            AND NOT foreign_trigger.tgisinternal
            AND foreign_trigger.tgenabled <> 'D'
    ) AS "has_foreign_triggers!"
FROM (
    SELECT
        COALESCE(array_agg(account."userId"), '{}') AS user_ids,
        COALESCE(array_agg(account."balance"), '{}') AS balances
    FROM account
) AS written
