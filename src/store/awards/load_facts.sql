-- The facts that a batch of awards needs besides the accounts of its referrers, in one row of
-- arrays. The statement runs after the players were locked, for the reasons given in
-- heists/load_facts.sql.
SELECT
    clock_timestamp() AS "now!",
    ARRAY(
        SELECT nextval('"HeistLedger_id_seq"')
        FROM generate_series(1, $1::bigint)
    ) AS "fresh_ids!",
    referred.user_ids AS "referred_user_ids!",
    referred.referrer_ids AS "referred_by_ids!: Vec<Option<i32>>",
    award.ids AS "award_ids!",
    award.referred_ids AS "awarded_referred_ids!",
    award.referrer_ids AS "awarded_referrer_ids!: Vec<Option<i32>>"
FROM (
    SELECT
        COALESCE(array_agg(player."id"), '{}') AS user_ids,
        COALESCE(array_agg(player."referredByUserId"), '{}') AS referrer_ids
    FROM "User" AS player
    WHERE player."id" = ANY($2::integer[])
) AS referred
CROSS JOIN (
    SELECT
        COALESCE(array_agg(earned."id"), '{}') AS ids,
        COALESCE(array_agg(earned."referredId"), '{}') AS referred_ids,
        COALESCE(array_agg(earned."referrerId"), '{}') AS referrer_ids
    FROM "HeistTokenAward" AS earned
    WHERE earned."referredId" = ANY($2::integer[])
) AS award
