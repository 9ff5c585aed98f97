-- How many notifications of player $1 are unread, and how many of these mark_read.sql was to mark.
SELECT
    count(*)::integer AS "unread!",
    count(*) FILTER (WHERE note."id" = ANY($2) OR note."id" <= $3) AS "not_marked!",
    EXISTS (
        SELECT 1
        FROM pg_trigger AS foreign_trigger
        WHERE
            foreign_trigger.tgrelid = '"HeistNotification"'::regclass
            AND NOT foreign_trigger.tgisinternal
            AND foreign_trigger.tgenabled <> 'D'
    ) AS "has_foreign_triggers!"
FROM "HeistNotification" AS note
WHERE note."userId" = $1 AND NOT note."read"
