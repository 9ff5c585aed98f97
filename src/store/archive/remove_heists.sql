-- Removes heists that are in a file, and adds them to their players' totals. $1 holds lines of the
-- file. A row is removed only if it equals its line, except for players who have been deleted since.
-- Returns whether the totals have grown by the removed heists, and how many rows stay although they
-- equal their line.
WITH filed AS (
    SELECT
        (given.line ->> 'id')::bigint AS id,
        (given.line ->> 'requestId')::uuid AS request_id,
        (given.line ->> 'pointsStolen')::integer AS points_stolen,
        (given.line ->> 'attackerPointsBefore')::integer AS attacker_points_before,
        (given.line ->> 'victimPointsBefore')::integer AS victim_points_before,
        (given.line ->> 'attackerTokensAfter')::integer AS tokens_after,
        (given.line ->> 'createdAt')::timestamptz AS created_at
    FROM (
        SELECT content.text::json AS line
        FROM unnest($1::text[]) AS content (text)
    ) AS given
),

removed AS (
    DELETE FROM "Heist" AS heist
    USING filed
    WHERE
        heist."id" = filed.id
        AND heist."requestId" = filed.request_id
        AND heist."pointsStolen" = filed.points_stolen
        AND heist."attackerPointsBefore" = filed.attacker_points_before
        AND heist."victimPointsBefore" = filed.victim_points_before
        AND heist."attackerTokensAfter" = filed.tokens_after
        AND heist."createdAt" = filed.created_at
    RETURNING
        heist."id" AS id,
        heist."attackerId" AS attacker_id,
        heist."victimId" AS victim_id,
        heist."pointsStolen" AS points,
        heist."attackerTokensAfter" AS tokens_after,
        heist."createdAt" AS created_at
),

robber AS (
    SELECT
        removed.attacker_id AS user_id,
        count(*) AS heists,
        sum(removed.points) AS points,
        max(removed.id) AS last_id
    FROM removed
    WHERE removed.attacker_id IS NOT NULL
    GROUP BY removed.attacker_id
),

robbed AS (
    SELECT
        removed.victim_id AS user_id,
        count(*) AS heists,
        sum(removed.points) AS points
    FROM removed
    WHERE removed.victim_id IS NOT NULL
    GROUP BY removed.victim_id
),

summed_up AS (
    INSERT INTO "HeistArchiveTotal" AS total (
        "userId",
        "heistsAsAttacker",
        "heistsAsVictim",
        "pointsStolen",
        "pointsLost",
        "lastSpendId",
        "lastSpendTokensAfter",
        "lastSpendAt"
    )
    SELECT
        COALESCE(robber.user_id, robbed.user_id),
        COALESCE(robber.heists, 0),
        COALESCE(robbed.heists, 0),
        COALESCE(robber.points, 0),
        COALESCE(robbed.points, 0),
        last_spend.id,
        last_spend.tokens_after,
        last_spend.created_at
    FROM robber
    FULL JOIN robbed ON robbed.user_id = robber.user_id
    LEFT JOIN removed AS last_spend ON last_spend.id = robber.last_id
    ON CONFLICT ("userId") DO UPDATE
    SET
        "heistsAsAttacker" = total."heistsAsAttacker" + excluded."heistsAsAttacker",
        "heistsAsVictim" = total."heistsAsVictim" + excluded."heistsAsVictim",
        "pointsStolen" = total."pointsStolen" + excluded."pointsStolen",
        "pointsLost" = total."pointsLost" + excluded."pointsLost",
        "lastSpendId" = COALESCE(excluded."lastSpendId", total."lastSpendId"),
        "lastSpendTokensAfter" = COALESCE(excluded."lastSpendTokensAfter", total."lastSpendTokensAfter"),
        "lastSpendAt" = COALESCE(excluded."lastSpendAt", total."lastSpendAt")
    RETURNING total."heistsAsAttacker" + total."heistsAsVictim" AS heists
),

entry AS (
    SELECT
        robber.user_id,
        robber.heists
    FROM robber
    UNION ALL
    SELECT
        robbed.user_id,
        robbed.heists
    FROM robbed
)

SELECT
    (SELECT count(*) FROM removed) AS "removed!",
    ARRAY(
        SELECT heist."id"
        FROM filed
        INNER JOIN "Heist" AS heist ON heist."id" = filed.id
        WHERE heist."id" NOT IN (SELECT removed.id FROM removed)
    ) AS "differing_ids!",
    (
        SELECT count(*)
        FROM filed
        INNER JOIN "Heist" AS heist ON heist."id" = filed.id
        WHERE
            heist."id" NOT IN (SELECT removed.id FROM removed)
            AND heist."requestId" = filed.request_id
            AND heist."pointsStolen" = filed.points_stolen
            AND heist."attackerPointsBefore" = filed.attacker_points_before
            AND heist."victimPointsBefore" = filed.victim_points_before
            AND heist."attackerTokensAfter" = filed.tokens_after
            AND heist."createdAt" = filed.created_at
    ) AS "kept!",
    -- The subquery sees the totals before this statement, because it reads the statement's
    -- snapshot.
    (SELECT COALESCE(sum(summed_up.heists), 0) FROM summed_up)
    = (SELECT COALESCE(sum(entry.heists), 0) FROM entry)
    + (
        SELECT COALESCE(sum(total."heistsAsAttacker" + total."heistsAsVictim"), 0)
        FROM "HeistArchiveTotal" AS total
        WHERE total."userId" = ANY(ARRAY(SELECT entry.user_id FROM entry))
    ) AS "totals_agree!"
