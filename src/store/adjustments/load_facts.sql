-- The time and fresh ids for a batch of adjustments. The statement runs after the players were
-- locked, for the reasons given in heists/load_facts.sql.
SELECT
    clock_timestamp() AS "now!",
    ARRAY(
        SELECT nextval('"HeistLedger_id_seq"')
        FROM generate_series(1, $1::bigint)
    ) AS "fresh_ids!"
