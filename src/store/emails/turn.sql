-- Holds the provider, so that one replica claims at a time. No row where another one does.
SELECT
    now() AS "now!",
    GREATEST(EXTRACT(EPOCH FROM provider."paidUntil" - now()), 0)::double precision AS "ahead_s!",
    COALESCE(provider."pausedUntil" > now(), false) AS "paused!",
    provider."trouble" IS NOT NULL AS "troubled!"
FROM "HeistEmailProvider" AS provider
WHERE provider."name" = $1
FOR NO KEY UPDATE SKIP LOCKED
