-- The contents of the tables after all triggers have run: the values of the given players and
-- accounts, and the number of given new rows that are unchanged. An update would have moved a row
-- to another "ctid".
SELECT
    player.ids AS "player_ids!",
    player.points AS "player_points!",
    account.user_ids AS "account_user_ids!",
    account.balances AS "account_balances!",
    (SELECT count(*) FROM "Heist" WHERE ctid = ANY($3::text[]::tid[])) AS "heists!",
    (SELECT count(*) FROM "UserPointEvent" WHERE ctid = ANY($4::text[]::tid[])) AS "point_events!",
    (SELECT count(*) FROM "HeistNotification" WHERE ctid = ANY($5::text[]::tid[])) AS "notifications!",
    (SELECT count(*) FROM "HeistTokenAward" WHERE ctid = ANY($6::text[]::tid[])) AS "awards!",
    (SELECT count(*) FROM "HeistTokenAdjustment" WHERE ctid = ANY($7::text[]::tid[])) AS "adjustments!"
FROM (
    SELECT
        COALESCE(array_agg("User"."id"), '{}') AS ids,
        COALESCE(array_agg("User"."monthlyPoints"), '{}') AS points
    FROM "User"
    WHERE "User"."id" = ANY($1)
) AS player
CROSS JOIN (
    SELECT
        COALESCE(array_agg(token."userId"), '{}') AS user_ids,
        COALESCE(array_agg(token."balance"), '{}') AS balances
    FROM "HeistToken" AS token
    WHERE token."userId" = ANY($2)
) AS account
