-- All inconsistencies of point events, one row each. The statement reads each table in one snapshot and
-- without row locks, and joins by hashing.
WITH side AS (
    -- Two rows for each heist, one for each player who still exists.
    SELECT
        heist."attackerId" AS user_id,
        'HEIST_GAIN' AS event_type,
        heist."attackerPointsAfter" - heist."attackerPointsBefore" AS delta
    FROM "Heist" AS heist
    WHERE heist."attackerId" IS NOT NULL
    UNION ALL
    SELECT
        heist."victimId",
        'HEIST_LOSS',
        heist."victimPointsAfter" - heist."victimPointsBefore"
    FROM "Heist" AS heist
    WHERE heist."victimId" IS NOT NULL
),

-- The archived heists of each player.
archived_side AS (
    SELECT
        total."userId" AS user_id,
        side.event_type,
        side.heists,
        side.points
    FROM "HeistArchiveTotal" AS total
    CROSS JOIN LATERAL (
        VALUES
            ('HEIST_GAIN', total."heistsAsAttacker", total."pointsStolen"),
            ('HEIST_LOSS', total."heistsAsVictim", -total."pointsLost")
    ) AS side (event_type, heists, points)
    WHERE side.heists <> 0 OR side.points <> 0
),

heist_sum AS (
    SELECT
        entry.user_id,
        entry.event_type,
        sum(entry.heists) AS events,
        sum(entry.points) AS points
    FROM (
        SELECT
            side.user_id,
            side.event_type,
            1 AS heists,
            side.delta AS points
        FROM side
        UNION ALL
        SELECT
            archived_side.user_id,
            archived_side.event_type,
            archived_side.heists,
            archived_side.points
        FROM archived_side
    ) AS entry
    GROUP BY entry.user_id, entry.event_type
),

-- The events of each player and type that are of equally many points.
point_event_group AS (
    SELECT
        event."userId" AS user_id,
        event_type."name" AS event_type,
        event."points" AS points,
        count(*) AS events
    FROM "UserPointEvent" AS event
    INNER JOIN "PointEventTypeMaster" AS event_type ON event_type."id" = event."pointEventTypeId"
    WHERE event_type."name" IN ('HEIST_GAIN', 'HEIST_LOSS')
    GROUP BY event."userId", event_type."name", event."points"
),

point_event_sum AS (
    SELECT
        point_event_group.user_id,
        point_event_group.event_type,
        sum(point_event_group.events) AS events,
        sum(point_event_group.events * point_event_group.points) AS points
    FROM point_event_group
    GROUP BY point_event_group.user_id, point_event_group.event_type
),

-- Players whose point events and heists have different sums.
sum_difference AS (
    SELECT
        COALESCE(heist_sum.user_id, point_event_sum.user_id) AS user_id,
        COALESCE(heist_sum.event_type, point_event_sum.event_type) AS event_type,
        COALESCE(heist_sum.events, 0) AS heists,
        COALESCE(heist_sum.points, 0) AS heist_points,
        COALESCE(point_event_sum.events, 0) AS events,
        COALESCE(point_event_sum.points, 0) AS event_points
    FROM heist_sum
    FULL JOIN point_event_sum
        ON
            point_event_sum.user_id = heist_sum.user_id
            AND point_event_sum.event_type = heist_sum.event_type
    WHERE
        COALESCE(heist_sum.events, 0) <> COALESCE(point_event_sum.events, 0)
        OR COALESCE(heist_sum.points, 0) <> COALESCE(point_event_sum.points, 0)
),

side_group AS (
    SELECT
        side.user_id,
        side.event_type,
        side.delta AS points,
        count(*) AS heists
    FROM side
    GROUP BY side.user_id, side.event_type, side.delta
)

SELECT
    format(
        'player %s has %s point events %s of %s points in all, but heists say %s of %s',
        sum_difference.user_id,
        sum_difference.events,
        sum_difference.event_type,
        sum_difference.event_points,
        sum_difference.heists,
        sum_difference.heist_points
    ) AS "finding!"
FROM sum_difference

UNION ALL
SELECT
    format(
        'player %s has %s point events %s of %s points each, but %s heists moved so many',
        COALESCE(side_group.user_id, point_event_group.user_id),
        COALESCE(point_event_group.events, 0),
        COALESCE(side_group.event_type, point_event_group.event_type),
        COALESCE(side_group.points, point_event_group.points),
        COALESCE(side_group.heists, 0)
    )
FROM side_group
FULL JOIN point_event_group
    ON
        point_event_group.user_id = side_group.user_id
        AND point_event_group.event_type = side_group.event_type
        AND point_event_group.points = side_group.points
WHERE
    COALESCE(side_group.heists, 0) <> COALESCE(point_event_group.events, 0)
    -- Of archived heists only the sums are known, and sums that differ are reported above.
    AND NOT EXISTS (
        SELECT 1
        FROM archived_side
        WHERE
            archived_side.user_id = COALESCE(side_group.user_id, point_event_group.user_id)
            AND archived_side.event_type = COALESCE(side_group.event_type, point_event_group.event_type)
    )
    AND NOT EXISTS (
        SELECT 1
        FROM sum_difference
        WHERE
            sum_difference.user_id = COALESCE(side_group.user_id, point_event_group.user_id)
            AND sum_difference.event_type = COALESCE(side_group.event_type, point_event_group.event_type)
    )

UNION ALL
SELECT
    format(
        '%s point events have the type %s, which is not in "PointEventTypeMaster"',
        count(*),
        event."pointEventTypeId"
    )
FROM "UserPointEvent" AS event
LEFT JOIN "PointEventTypeMaster" AS event_type ON event_type."id" = event."pointEventTypeId"
WHERE event_type."id" IS NULL
GROUP BY event."pointEventTypeId"
