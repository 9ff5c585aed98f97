-- Every heist that happened, as the points and tokens were before and after it.
--
-- Locks: as the migration before, SHARE ROW EXCLUSIVE on "User" for an instant.
SET LOCAL lock_timeout = '2s';

CREATE TABLE "Heist" (
    "id" bigint NOT NULL DEFAULT nextval('"HeistLedger_id_seq"'),
    -- Null where the player has been deleted since.
    "attackerId" integer,
    "victimId" integer,
    "pointsStolen" integer NOT NULL,
    "attackerPointsBefore" integer NOT NULL,
    "attackerPointsAfter" integer NOT NULL,
    "victimPointsBefore" integer NOT NULL,
    "victimPointsAfter" integer NOT NULL,
    "attackerTokensAfter" integer NOT NULL,
    -- The caller's, or one of the service's own where the caller gave none.
    "requestId" uuid NOT NULL,
    "ipAddress" inet,
    "createdAt" timestamptz(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "Heist_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "Heist_attackerId_fkey" FOREIGN KEY ("attackerId")
        REFERENCES "User" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    CONSTRAINT "Heist_victimId_fkey" FOREIGN KEY ("victimId")
        REFERENCES "User" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    CONSTRAINT "Heist_players_check" CHECK ("attackerId" <> "victimId"),
    CONSTRAINT "Heist_points_check" CHECK (
        "pointsStolen" > 0
        AND "attackerPointsAfter" = "attackerPointsBefore" + "pointsStolen"
        AND "victimPointsAfter" = "victimPointsBefore" - "pointsStolen"
        AND "victimPointsAfter" >= 0
    ),
    CONSTRAINT "Heist_attackerTokensAfter_check" CHECK ("attackerTokensAfter" >= 0)
);

-- ExecuteHeist: the retry of a call finds the first one.
CREATE UNIQUE INDEX "Heist_requestId_key" ON "Heist" ("requestId");
-- ListHeists and ListTokenEvents of an attacker, newest first; deleting a player.
CREATE INDEX "Heist_attackerId_id_idx" ON "Heist" ("attackerId", "id");
-- ListHeists of a victim; ExecuteHeist: the last robberies, for the protection; deleting a player.
CREATE INDEX "Heist_victimId_id_idx" ON "Heist" ("victimId", "id");

-- A deleted attacker's address does not outlive their account.
CREATE FUNCTION "Heist_forget_attacker"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW."ipAddress" := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER "Heist_forget_attacker"
BEFORE UPDATE OF "attackerId" ON "Heist"
FOR EACH ROW WHEN (NEW."attackerId" IS NULL)
EXECUTE FUNCTION "Heist_forget_attacker"();
