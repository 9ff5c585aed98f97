-- Writes all changes of a batch of awards in one statement. Returns the written values, so that the
-- caller can compare them with the decision.
WITH award AS (
    SELECT
        given.id,
        given.referrer_id,
        given.referred_id,
        given.referred_name,
        given.balance_after
    FROM unnest(
        $2::bigint[],
        $3::integer[],
        $4::integer[],
        $5::text[],
        $6::integer[]
    ) AS given (id, referrer_id, referred_id, referred_name, balance_after)
),

earned_tokens AS (
    INSERT INTO "HeistToken" AS token ("userId", "balance", "totalEarned", "lastEarnedAt")
    SELECT
        award.referrer_id,
        count(*)::integer * $7::integer,
        count(*)::integer * $7::integer,
        $1
    FROM award
    GROUP BY award.referrer_id
    ON CONFLICT ("userId") DO UPDATE
    SET
        "balance" = token."balance" + excluded."balance",
        "totalEarned" = token."totalEarned" + excluded."totalEarned",
        "lastEarnedAt" = excluded."lastEarnedAt"
    RETURNING "userId", "balance"
),

recorded_awards AS (
    INSERT INTO "HeistTokenAward" (
        "id",
        "referrerId",
        "referredId",
        "referredName",
        "balanceAfter",
        "createdAt"
    )
    SELECT
        award.id,
        award.referrer_id,
        award.referred_id,
        award.referred_name,
        award.balance_after,
        $1
    FROM award
    RETURNING "id", "referrerId", "referredId", "balanceAfter", ctid
),

notifications AS (
    -- In the order of the awards, so that the ids of each player's notifications have this order.
    INSERT INTO "HeistNotification" (
        "userId",
        "type",
        "ledgerId",
        "otherUserId",
        "after",
        "createdAt",
        "emailState",
        "emailAt",
        "emailTrace"
    )
    SELECT
        award.referrer_id,
        'TOKEN_EARNED',
        award.id,
        award.referred_id,
        award.balance_after,
        $1,
        CASE WHEN $8::timestamptz IS NOT NULL THEN 'QUEUED'::"HeistEmailState" END,
        $8,
        $9
    FROM award
    ORDER BY award.id
    RETURNING "userId", "type", "ledgerId", "otherUserId", "after", ctid
)

SELECT
    account.user_ids AS "account_user_ids!",
    account.balances AS "account_balances!",
    -- A row below is returned only if it holds the given values.
    ARRAY(
        SELECT recorded.ctid::text
        FROM recorded_awards AS recorded
        INNER JOIN award
            ON
                award.id = recorded."id"
                AND award.referrer_id = recorded."referrerId"
                AND award.referred_id = recorded."referredId"
                AND award.balance_after = recorded."balanceAfter"
    ) AS "awards!",
    ARRAY(
        SELECT note.ctid::text
        FROM notifications AS note
        INNER JOIN award
            ON
                award.id = note."ledgerId"
                AND award.referrer_id = note."userId"
                AND award.referred_id = note."otherUserId"
                AND award.balance_after = note."after"
        WHERE note."type" = 'TOKEN_EARNED'
    ) AS "notifications!",
    -- A trigger can change rows after this statement has returned them.
    EXISTS (
        SELECT 1
        FROM pg_trigger AS foreign_trigger
        WHERE
            foreign_trigger.tgrelid IN (
                '"HeistToken"'::regclass,
                '"HeistTokenAward"'::regclass,
                '"HeistNotification"'::regclass
            )
            AND NOT foreign_trigger.tgisinternal
            AND foreign_trigger.tgenabled <> 'D'
            AND foreign_trigger.tgname <> 'HeistTokenAward_forget_referred'
    ) AS "has_foreign_triggers!"
FROM (
    SELECT
        COALESCE(array_agg(earned_tokens."userId"), '{}') AS user_ids,
        COALESCE(array_agg(earned_tokens."balance"), '{}') AS balances
    FROM earned_tokens
) AS account
