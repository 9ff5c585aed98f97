-- Counts queued, claimed and parked e-mails. Reads only the partial index.
SELECT
    count(*) FILTER (WHERE note."emailState" = 'QUEUED' AND note."emailAt" > now()) AS "waiting!",
    count(*) FILTER (WHERE note."emailState" = 'QUEUED' AND note."emailAt" <= now()) AS "due!",
    count(*) FILTER (WHERE note."emailState" = 'SENDING') AS "sending!",
    count(*) FILTER (WHERE note."emailState" = 'FAILED') AS "failed!",
    count(*) FILTER (WHERE note."emailState" = 'UNKNOWN') AS "unknown!",
    COALESCE(
        EXTRACT(EPOCH FROM now() - min(note."emailAt") FILTER (
            WHERE note."emailState" = 'QUEUED' AND note."emailAt" <= now()
        )),
        0
    )::double precision AS "oldest_due_s!"
FROM "HeistNotification" AS note
WHERE note."emailState" IN ('QUEUED', 'SENDING', 'FAILED', 'UNKNOWN')
