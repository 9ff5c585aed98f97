-- The two kinds of point events that a heist writes, added to the application's
-- master table where it does not have them already.
--
-- Locks: one row lock per inserted row; nobody waits.

-- What a revert has to put back in the application's tables.
CREATE TABLE "HeistRevertNote" (
    "name" text NOT NULL,
    "value" bigint NOT NULL,
    CONSTRAINT "HeistRevertNote_pkey" PRIMARY KEY ("name")
);

DO $$
DECLARE
    id_sequence text := pg_get_serial_sequence('"PointEventTypeMaster"', 'id');
    last_value_before bigint;
    is_called_before boolean;
BEGIN
    EXECUTE format('SELECT last_value, is_called FROM %s', id_sequence)
        INTO last_value_before, is_called_before;

    -- NOT EXISTS rather than ON CONFLICT, which would use up a sequence value.
    WITH added AS (
        INSERT INTO "PointEventTypeMaster" ("name", "description")
        SELECT missing."name", missing."description"
        FROM (
            VALUES
                ('HEIST_GAIN', 'Points gained from successful heist'),
                ('HEIST_LOSS', 'Points lost from being robbed')
        ) AS missing ("name", "description")
        WHERE NOT EXISTS (
            SELECT 1
            FROM "PointEventTypeMaster" AS present
            WHERE present."name" = missing."name"
        )
        RETURNING "id", "name"
    )
    INSERT INTO "HeistRevertNote" ("name", "value")
    SELECT 'added ' || added."name", added."id"
    FROM added;

    INSERT INTO "HeistRevertNote" ("name", "value")
    VALUES
        ('sequence before', last_value_before),
        ('sequence called before', is_called_before::int),
        ('sequence after', COALESCE((SELECT max("value") FROM "HeistRevertNote" WHERE "name" LIKE 'added %'), last_value_before));
END
$$;
