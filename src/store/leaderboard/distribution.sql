-- The number of players with each number of points, by descending points.
SELECT
    player."monthlyPoints" AS "monthly_points!",
    count(*) AS "players!"
FROM "User" AS player
GROUP BY player."monthlyPoints"
ORDER BY player."monthlyPoints" DESC
