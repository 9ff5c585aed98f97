-- Writes everything that a batch of heists changes, in one statement. Each player's row and
-- each account is written once, however many heists of the batch it is part of.
WITH heist AS (
    SELECT
        given.id,
        given.attacker_id,
        given.victim_id,
        given.points_stolen,
        given.attacker_points_before,
        given.victim_points_before,
        given.tokens_remaining,
        given.request_id,
        given.ip_address,
        given.gain_description,
        given.loss_description,
        given.protection_ends_at
    FROM unnest(
        $2::bigint[],
        $3::integer[],
        $4::integer[],
        $5::integer[],
        $6::integer[],
        $7::integer[],
        $8::integer[],
        $9::uuid[],
        $10::text[],
        $11::text[],
        $12::text[],
        $13::timestamptz[]
    ) AS given (
        id,
        attacker_id,
        victim_id,
        points_stolen,
        attacker_points_before,
        victim_points_before,
        tokens_remaining,
        request_id,
        ip_address,
        gain_description,
        loss_description,
        protection_ends_at
    )
),

-- Every heist from both sides.
side AS (
    SELECT
        heist.id AS heist_id,
        heist.attacker_id AS user_id,
        heist.victim_id AS other_user_id,
        'HEIST_SUCCESS'::"HeistNotificationType" AS notification_type,
        'HEIST_GAIN' AS event_type,
        heist.points_stolen AS delta,
        heist.attacker_points_before + heist.points_stolen AS points_after,
        heist.gain_description AS description,
        NULL::timestamptz AS protection_ends_at
    FROM heist
    UNION ALL
    SELECT
        heist.id,
        heist.victim_id,
        heist.attacker_id,
        'HEIST_VICTIM',
        'HEIST_LOSS',
        -heist.points_stolen,
        heist.victim_points_before - heist.points_stolen,
        heist.loss_description,
        heist.protection_ends_at
    FROM heist
),

moved_points AS (
    UPDATE "User" AS player
    SET "monthlyPoints" = player."monthlyPoints" + movement.delta
    FROM (
        SELECT
            side.user_id,
            sum(side.delta)::integer AS delta
        FROM side
        GROUP BY side.user_id
    ) AS movement
    WHERE player."id" = movement.user_id
),

spent_tokens AS (
    UPDATE "HeistToken" AS token
    SET
        "balance" = token."balance" - spend.tokens,
        "totalSpent" = token."totalSpent" + spend.tokens,
        "lastSpentAt" = $1
    FROM (
        SELECT
            heist.attacker_id,
            count(*)::integer AS tokens
        FROM heist
        GROUP BY heist.attacker_id
    ) AS spend
    WHERE token."userId" = spend.attacker_id
),

recorded_heists AS (
    INSERT INTO "Heist" (
        "id",
        "attackerId",
        "victimId",
        "pointsStolen",
        "attackerPointsBefore",
        "attackerPointsAfter",
        "victimPointsBefore",
        "victimPointsAfter",
        "attackerTokensAfter",
        "requestId",
        "ipAddress",
        "createdAt"
    )
    SELECT
        heist.id,
        heist.attacker_id,
        heist.victim_id,
        heist.points_stolen,
        heist.attacker_points_before,
        heist.attacker_points_before + heist.points_stolen,
        heist.victim_points_before,
        heist.victim_points_before - heist.points_stolen,
        heist.tokens_remaining,
        heist.request_id,
        heist.ip_address::inet,
        $1
    FROM heist
),

point_events AS (
    INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId", "description")
    SELECT
        side.user_id,
        side.delta,
        event_type."id",
        side.description
    FROM side
    INNER JOIN "PointEventTypeMaster" AS event_type ON event_type."name" = side.event_type
)

-- In the order of the heists, so that each player's notifications are numbered in it.
INSERT INTO "HeistNotification" (
    "userId",
    "type",
    "ledgerId",
    "otherUserId",
    "points",
    "after",
    "protectionEndsAt",
    "createdAt",
    "emailState",
    "emailAt",
    "emailTrace"
)
SELECT
    side.user_id,
    side.notification_type,
    side.heist_id,
    side.other_user_id,
    abs(side.delta),
    side.points_after,
    side.protection_ends_at,
    $1,
    CASE WHEN $14::timestamptz IS NOT NULL THEN 'QUEUED'::"HeistEmailState" END,
    $14,
    $15
FROM side
ORDER BY side.heist_id
