-- Writes everything that a batch of awards changes, in one statement.
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
)

-- In the order of the awards, so that each player's notifications are numbered in it.
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
