-- Sequences whose last value is below an id of their rows, one row each.
SELECT
    numbered.sequence,
    COALESCE(pg_sequence_last_value(numbered.sequence::regclass), 0) AS last_value,
    numbered.highest_id
FROM (
    SELECT
        '"HeistLedger_id_seq"' AS sequence,
        greatest(
            (SELECT max(heist."id") FROM "Heist" AS heist),
            (SELECT max(award."id") FROM "HeistTokenAward" AS award),
            (SELECT max(adjustment."id") FROM "HeistTokenAdjustment" AS adjustment)
        ) AS highest_id
    UNION ALL
    SELECT
        '"HeistNotification_id_seq"',
        max(newest."id")
    FROM (
        (
            SELECT heist."attackerId" AS user_id
            FROM "Heist" AS heist
            ORDER BY heist."id" DESC
            LIMIT 1
        )
        UNION ALL
        (
            SELECT award."referrerId"
            FROM "HeistTokenAward" AS award
            ORDER BY award."id" DESC
            LIMIT 1
        )
    ) AS player
    CROSS JOIN LATERAL (
        SELECT note."id"
        FROM "HeistNotification" AS note
        WHERE note."userId" = player.user_id
        ORDER BY note."id" DESC
        LIMIT 1
    ) AS newest
) AS numbered
WHERE
    numbered.highest_id IS NOT NULL
    AND numbered.highest_id > COALESCE(pg_sequence_last_value(numbered.sequence::regclass), 0)
