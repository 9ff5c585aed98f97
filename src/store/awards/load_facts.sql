-- All that a batch of awards has to know besides its referrers' rows, in one row of arrays.
-- Runs after the referrers were locked, for the reasons given in heists/load_facts.sql.
SELECT
    clock_timestamp() AS "now!",
    ARRAY(
        SELECT nextval('"HeistLedger_id_seq"')
        FROM generate_series(1, $1::bigint)
    ) AS "fresh_ids!",
    referred.user_ids AS "referred_user_ids!",
    referred.referrer_ids AS "referred_by_ids!: Vec<Option<i32>>",
    award.referred_ids AS "awarded_referred_ids!",
    award.referrer_ids AS "awarded_referrer_ids!: Vec<Option<i32>>",
    account.user_ids AS "account_user_ids!",
    account.balances AS "account_balances!",
    account.totals_earned AS "account_totals_earned!",
    account.totals_spent AS "account_totals_spent!",
    account.last_earned_times AS "account_last_earned_times!: Vec<Option<OffsetDateTime>>",
    account.last_spent_times AS "account_last_spent_times!: Vec<Option<OffsetDateTime>>"
FROM (
    SELECT
        COALESCE(array_agg(player."id"), '{}') AS user_ids,
        COALESCE(array_agg(player."referredByUserId"), '{}') AS referrer_ids
    FROM "User" AS player
    WHERE player."id" = ANY($2::integer[])
) AS referred
CROSS JOIN (
    SELECT
        COALESCE(array_agg(earned."referredId"), '{}') AS referred_ids,
        COALESCE(array_agg(earned."referrerId"), '{}') AS referrer_ids
    FROM "HeistTokenAward" AS earned
    WHERE earned."referredId" = ANY($2::integer[])
) AS award
CROSS JOIN (
    SELECT
        COALESCE(array_agg(token."userId"), '{}') AS user_ids,
        COALESCE(array_agg(token."balance"), '{}') AS balances,
        COALESCE(array_agg(token."totalEarned"), '{}') AS totals_earned,
        COALESCE(array_agg(token."totalSpent"), '{}') AS totals_spent,
        COALESCE(array_agg(token."lastEarnedAt"), '{}') AS last_earned_times,
        COALESCE(array_agg(token."lastSpentAt"), '{}') AS last_spent_times
    FROM "HeistToken" AS token
    WHERE token."userId" = ANY($3::integer[])
) AS account
