-- All that a batch of heists has to know besides its players' rows, in one row of arrays.
-- Runs after the players were locked, in a statement of its own: only so does it see what
-- was committed while the lock was waited for. Also the clock is read, and the ids are
-- drawn, under the locks: both grow in commit order for each player.
--
-- The newest robberies of a victim are a range of "Heist_victimId_id_idx", and written as one: from
-- an equality and an order by id, PostgreSQL may conclude that all heists from the newest down are
-- the shorter way, where a few popular victims have had most of them so far.
SELECT
    clock_timestamp() AS "now!",
    ARRAY(
        SELECT nextval('"HeistLedger_id_seq"')
        FROM generate_series(1, $1::bigint)
    ) AS "fresh_ids!",
    ARRAY(
        SELECT seen."requestId"
        FROM "Heist" AS seen
        WHERE seen."requestId" = ANY($2::uuid[])
    ) AS "seen_request_ids!",
    account.user_ids AS "account_user_ids!",
    account.balances AS "account_balances!",
    account.last_spent_times AS "account_last_spent_times!: Vec<Option<OffsetDateTime>>",
    robbery.victim_ids AS "robbery_victim_ids!",
    robbery.times AS "robbery_times!"
FROM (
    SELECT
        COALESCE(array_agg(token."userId"), '{}') AS user_ids,
        COALESCE(array_agg(token."balance"), '{}') AS balances,
        COALESCE(array_agg(token."lastSpentAt"), '{}') AS last_spent_times
    FROM "HeistToken" AS token
    WHERE token."userId" = ANY($3::integer[])
) AS account
CROSS JOIN (
    SELECT
        COALESCE(array_agg(victim.id ORDER BY latest."id"), '{}') AS victim_ids,
        COALESCE(array_agg(latest."createdAt" ORDER BY latest."id"), '{}') AS times
    FROM unnest($4::integer[]) AS victim (id)
    CROSS JOIN LATERAL (
        SELECT
            heist."id",
            heist."createdAt"
        FROM "Heist" AS heist
        WHERE heist."victimId" >= victim.id AND (heist."victimId", heist."id") <= (victim.id, 9223372036854775807)
        ORDER BY heist."victimId" DESC, heist."id" DESC
        LIMIT $5::bigint
    ) AS latest
) AS robbery
