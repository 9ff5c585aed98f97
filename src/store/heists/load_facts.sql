-- The facts that a batch of heists needs besides its players' rows, in one row of arrays. The
-- statement runs after the players were locked, so it sees every commit before the locks. It reads
-- the clock and draws the ids under the locks, so that both grow in commit order for each player.
--
-- The newest robberies of a victim are a range of "Heist_victimId_id_idx", and the condition is
-- written as a range. With an equality and an order by id, PostgreSQL may scan all heists from the
-- newest down instead, because that looks shorter if a few popular victims had most of the heists.
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
