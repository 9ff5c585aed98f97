-- A page of the board, best first, of those who stand behind the player with $2 points and
-- the id $3; and how many stand before the page's first player, with more points and with as
-- many. Among equals the higher id stands first: the index gives this order for free.
WITH page AS (
    SELECT
        player."id" AS user_id,
        player."name" AS name,
        player."monthlyPoints" AS monthly_points
    FROM "User" AS player
    WHERE (player."monthlyPoints", player."id") < ($2::integer, $3::integer)
    ORDER BY player."monthlyPoints" DESC, player."id" DESC
    LIMIT $1
),

first_player AS (
    SELECT
        page.user_id,
        page.monthly_points
    FROM page
    ORDER BY page.monthly_points DESC, page.user_id DESC
    LIMIT 1
)

SELECT
    page.user_id AS "user_id!",
    page.name AS "name!",
    page.monthly_points AS "monthly_points!",
    -- Not a join, which a plan for pages of unknown length would make with the whole table.
    COALESCE(
        (
            SELECT token."balance"
            FROM "HeistToken" AS token
            WHERE token."userId" = page.user_id
        ),
        0
    ) AS "token_balance!",
    (
        SELECT count(*)
        FROM "User" AS better
        WHERE better."monthlyPoints" > (SELECT first_player.monthly_points FROM first_player)
    ) AS "above!",
    (
        SELECT count(*)
        FROM "User" AS equal
        WHERE
            equal."monthlyPoints" = (SELECT first_player.monthly_points FROM first_player)
            AND equal."id" > (SELECT first_player.user_id FROM first_player)
    ) AS "tied_before!"
FROM page
ORDER BY page.monthly_points DESC, page.user_id DESC
