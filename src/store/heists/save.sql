-- Writes all changes of a batch of heists in one statement. The statement writes each player's row
-- and each account once, however many heists of the batch involve it. It returns the written
-- values, so that the caller can compare them with the decision.
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

-- Two rows for each heist: the attacker's side and the victim's side.
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
    RETURNING player."id", player."monthlyPoints"
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
    RETURNING token."userId", token."balance"
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
    RETURNING
        "id",
        "attackerId",
        "victimId",
        "pointsStolen",
        "attackerPointsBefore",
        "victimPointsBefore",
        "attackerTokensAfter",
        "requestId",
        ctid
),

point_events AS (
    -- The description is cut to the length of the application's column.
    INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId", "description", "createdAt")
    SELECT
        side.user_id,
        side.delta,
        event_type."id",
        left(
            side.description,
            COALESCE(
                (
                    SELECT attribute.atttypmod - 4
                    FROM pg_attribute AS attribute
                    WHERE
                        attribute.attrelid = '"UserPointEvent"'::regclass
                        AND attribute.attname = 'description'
                        AND attribute.atttypmod > 4
                ),
                1000
            )
        ),
        $1
    FROM side
    INNER JOIN "PointEventTypeMaster" AS event_type ON event_type."name" = side.event_type
    RETURNING "userId", "points", ctid
),

notifications AS (
    -- In the order of the heists, so that the ids of each player's notifications have this order.
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
    RETURNING "userId", "type", "ledgerId", "otherUserId", "points", "after", ctid
)

SELECT
    player.ids AS "player_ids!",
    player.points AS "player_points!",
    account.user_ids AS "account_user_ids!",
    account.balances AS "account_balances!",
    -- A row below is returned only if it holds the given values.
    ARRAY(
        SELECT recorded.ctid::text
        FROM recorded_heists AS recorded
        INNER JOIN heist
            ON
                heist.id = recorded."id"
                AND heist.attacker_id = recorded."attackerId"
                AND heist.victim_id = recorded."victimId"
                AND heist.points_stolen = recorded."pointsStolen"
                AND heist.attacker_points_before = recorded."attackerPointsBefore"
                AND heist.victim_points_before = recorded."victimPointsBefore"
                AND heist.tokens_remaining = recorded."attackerTokensAfter"
                AND heist.request_id = recorded."requestId"
    ) AS "heists!",
    ARRAY(
        SELECT event.ctid::text
        FROM point_events AS event
        WHERE EXISTS (
            SELECT 1
            FROM side
            WHERE side.user_id = event."userId" AND side.delta = event."points"
        )
    ) AS "point_events!",
    ARRAY(
        SELECT note.ctid::text
        FROM notifications AS note
        INNER JOIN side
            ON
                side.heist_id = note."ledgerId"
                AND side.user_id = note."userId"
                AND side.notification_type = note."type"
                AND side.other_user_id = note."otherUserId"
                AND abs(side.delta) = note."points"
                AND side.points_after = note."after"
    ) AS "notifications!",
    (
        SELECT count(*)
        FROM "PointEventTypeMaster" AS event_type
        WHERE event_type."name" = ANY(ARRAY['HEIST_GAIN', 'HEIST_LOSS'])
    ) AS "event_types!",
    -- A trigger can change rows after this statement has returned them.
    EXISTS (
        SELECT 1
        FROM pg_trigger AS foreign_trigger
        WHERE
            foreign_trigger.tgrelid IN (
                '"User"'::regclass,
                '"UserPointEvent"'::regclass,
                '"HeistToken"'::regclass,
                '"Heist"'::regclass,
                '"HeistNotification"'::regclass
            )
            AND NOT foreign_trigger.tgisinternal
            AND foreign_trigger.tgenabled <> 'D'
            AND foreign_trigger.tgname NOT IN ('Heist_forget_attacker', 'HeistPointEvent_fill')
    ) AS "has_foreign_triggers!"
FROM (
    SELECT
        COALESCE(array_agg(moved_points."id"), '{}') AS ids,
        COALESCE(array_agg(moved_points."monthlyPoints"), '{}') AS points
    FROM moved_points
) AS player
CROSS JOIN (
    SELECT
        COALESCE(array_agg(spent_tokens."userId"), '{}') AS user_ids,
        COALESCE(array_agg(spent_tokens."balance"), '{}') AS balances
    FROM spent_tokens
) AS account
