-- A whole heist as one server-side function, written for speed: the service is compared with it.
-- Same tables, same indexes, same rules, same rows.
--
-- The session caches the plan of every statement. Each row is looked up by its key, once. One
-- statement checks and spends the token. A heist that is not allowed raises an exception, which
-- ends the run: the scenarios make no such heists.
--
-- The percentage, the cap and the minimum are the service's defaults. The cooldown is 0, as in the
-- bench; checking it costs nothing here. $GAIN and $LOSS are replaced by the ids of the two types
-- of point events, so that a heist does not look them up.
CREATE FUNCTION raw_heist(
    attacker_id integer,
    victim_id integer,
    -- Null: no protection.
    protection_after integer,
    protection_window interval
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    cooldown CONSTANT interval := '0';
    attacker_name text;
    attacker_points integer;
    victim_name text;
    victim_points integer;
    happened_at timestamptz;
    tokens_after integer;
    stolen integer;
    -- [2]: the robbery that must be older than the window for this heist to be allowed. [1]: the
    -- robbery that starts the protection after this heist.
    robbed_at timestamptz[];
    protection_ends_at timestamptz;
    heist_id bigint;
BEGIN
    IF attacker_id < victim_id THEN
        SELECT "name", "monthlyPoints" INTO attacker_name, attacker_points
        FROM "User" WHERE "id" = attacker_id FOR NO KEY UPDATE;
        SELECT "name", "monthlyPoints" INTO victim_name, victim_points
        FROM "User" WHERE "id" = victim_id FOR NO KEY UPDATE;
    ELSE
        SELECT "name", "monthlyPoints" INTO victim_name, victim_points
        FROM "User" WHERE "id" = victim_id FOR NO KEY UPDATE;
        SELECT "name", "monthlyPoints" INTO attacker_name, attacker_points
        FROM "User" WHERE "id" = attacker_id FOR NO KEY UPDATE;
    END IF;
    IF attacker_id = victim_id OR attacker_name IS NULL OR victim_name IS NULL THEN
        RAISE EXCEPTION 'no such players: % and %', attacker_id, victim_id;
    END IF;

    happened_at := clock_timestamp();
    UPDATE "HeistToken"
    SET
        "balance" = "balance" - 1,
        "totalSpent" = "totalSpent" + 1,
        "lastSpentAt" = happened_at
    WHERE
        "userId" = attacker_id
        AND "balance" >= 1
        AND ("lastSpentAt" IS NULL OR "lastSpentAt" + cooldown <= happened_at)
    RETURNING "balance" INTO tokens_after;
    IF tokens_after IS NULL THEN
        RAISE EXCEPTION 'player % has no token or has to wait', attacker_id;
    END IF;

    stolen := least(victim_points::bigint * 5 / 100, 100);
    IF victim_points < 20 OR stolen < 1 THEN
        RAISE EXCEPTION 'player % has only % points', victim_id, victim_points;
    END IF;

    IF protection_after IS NOT NULL THEN
        robbed_at := ARRAY(
            SELECT "createdAt"
            FROM "Heist"
            WHERE "victimId" = victim_id
            ORDER BY "id" DESC
            OFFSET protection_after - 2
            LIMIT 2
        );
        IF robbed_at[2] + protection_window > happened_at THEN
            RAISE EXCEPTION 'player % is protected', victim_id;
        END IF;
        IF robbed_at[1] + protection_window > happened_at THEN
            protection_ends_at := robbed_at[1] + protection_window;
        END IF;
    END IF;

    UPDATE "User" SET "monthlyPoints" = attacker_points + stolen WHERE "id" = attacker_id;
    UPDATE "User" SET "monthlyPoints" = victim_points - stolen WHERE "id" = victim_id;

    INSERT INTO "Heist" (
        "attackerId",
        "victimId",
        "pointsStolen",
        "attackerPointsBefore",
        "attackerPointsAfter",
        "victimPointsBefore",
        "victimPointsAfter",
        "attackerTokensAfter",
        "requestId",
        "ipAddress",
        "createdAt"
    )
    VALUES (
        attacker_id,
        victim_id,
        stolen,
        attacker_points,
        attacker_points + stolen,
        victim_points,
        victim_points - stolen,
        tokens_after,
        gen_random_uuid(),
        '127.0.0.1',
        happened_at
    )
    RETURNING "id" INTO heist_id;

    INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId", "description")
    VALUES
        (attacker_id, stolen, $GAIN, 'Stole ' || stolen || ' points from ' || victim_name),
        (victim_id, -stolen, $LOSS, 'Lost ' || stolen || ' points to ' || attacker_name);

    INSERT INTO "HeistNotification" (
        "userId",
        "type",
        "ledgerId",
        "otherUserId",
        "points",
        "after",
        "protectionEndsAt",
        "createdAt"
    )
    VALUES
        (
            attacker_id,
            'HEIST_SUCCESS',
            heist_id,
            victim_id,
            stolen,
            attacker_points + stolen,
            NULL,
            happened_at
        ),
        (
            victim_id,
            'HEIST_VICTIM',
            heist_id,
            attacker_id,
            stolen,
            victim_points - stolen,
            protection_ends_at,
            happened_at
        );
    RETURN heist_id;
END
$$;
