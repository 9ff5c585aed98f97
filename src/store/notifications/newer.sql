-- For each player with the given newest known id: the id of the newest notification, if it is newer.
SELECT
    known.user_id AS "user_id!",
    newest."id" AS "id!"
FROM unnest($1::integer[], $2::bigint[]) AS known (user_id, id)
CROSS JOIN LATERAL (
    SELECT note."id"
    FROM "HeistNotification" AS note
    WHERE note."userId" = known.user_id AND note."id" > known.id
    ORDER BY note."id" DESC
    LIMIT 1
) AS newest
