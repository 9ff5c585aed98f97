-- Locks the provider's row, so that one replica claims at a time. Returns no row if another replica
-- holds the lock.
SELECT
    now() AS "now!",
    GREATEST(EXTRACT(EPOCH FROM provider."paidUntil" - now()), 0)::double precision AS "ahead_s!",
    COALESCE(provider."pausedUntil" > now(), false) AS "paused!",
    provider."trouble" IS NOT NULL AS "provider_fails!"
FROM "HeistEmailProvider" AS provider
WHERE provider."name" = $1
FOR NO KEY UPDATE SKIP LOCKED
