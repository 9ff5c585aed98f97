-- The commit of a signal need not reach the disk: whoever loses the database hears nothing for
-- a while, and resynchronises.
SELECT pg_notify($1, signal.payload)
FROM unnest($2::text[]) WITH ORDINALITY AS signal (payload, position)
CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
ORDER BY signal.position
