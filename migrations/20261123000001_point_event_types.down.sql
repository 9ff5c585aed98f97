-- Removes the event types that the migration added, unless point events of players
-- already use them: those are the application's history and stay explained.
DO $$
DECLARE
    id_sequence text := pg_get_serial_sequence('"PointEventTypeMaster"', 'id');
    sequence_now bigint;
    all_removed boolean;
BEGIN
    DELETE FROM "PointEventTypeMaster" AS master
    USING "HeistRevertNote" AS note
    WHERE note."name" = 'added ' || master."name"
        AND note."value" = master."id"
        AND NOT EXISTS (
            SELECT 1
            FROM "UserPointEvent" AS event
            WHERE event."pointEventTypeId" = master."id"
        );

    SELECT NOT EXISTS (
        SELECT 1
        FROM "HeistRevertNote" AS note
        INNER JOIN "PointEventTypeMaster" AS master ON note."name" = 'added ' || master."name"
    ) INTO all_removed;

    -- Put the sequence back only where nobody else has used it since.
    EXECUTE format('SELECT last_value FROM %s', id_sequence) INTO sequence_now;
    IF all_removed
        AND sequence_now = (SELECT "value" FROM "HeistRevertNote" WHERE "name" = 'sequence after')
    THEN
        PERFORM setval(
            id_sequence,
            (SELECT "value" FROM "HeistRevertNote" WHERE "name" = 'sequence before'),
            (SELECT "value" = 1 FROM "HeistRevertNote" WHERE "name" = 'sequence called before')
        );
    END IF;
END
$$;

DROP TABLE "HeistRevertNote";
