-- Who has how many tokens, and where they came from.
--
-- Locks: each foreign key takes SHARE ROW EXCLUSIVE on "User" for an instant (the new
-- tables are empty). lock_timeout keeps a long transaction of the application from
-- holding up everybody who queues behind us; `heist migrate up` tries again.
SET LOCAL lock_timeout = '2s';

-- One sequence numbers awards, heists and adjustments. The id is drawn while the
-- player's row is locked, so that it orders all that changes one player's tokens.
CREATE SEQUENCE "HeistLedger_id_seq" AS bigint;

CREATE TABLE "HeistToken" (
    "userId" integer NOT NULL,
    "balance" integer NOT NULL DEFAULT 0,
    "totalEarned" integer NOT NULL DEFAULT 0,
    "totalSpent" integer NOT NULL DEFAULT 0,
    "lastEarnedAt" timestamptz(6),
    -- The time of the last heist: the cooldown counts from here.
    "lastSpentAt" timestamptz(6),
    CONSTRAINT "HeistToken_pkey" PRIMARY KEY ("userId"),
    CONSTRAINT "HeistToken_userId_fkey" FOREIGN KEY ("userId")
        REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT "HeistToken_balance_check" CHECK (
        "balance" >= 0 AND "totalSpent" >= 0 AND "balance" = "totalEarned" - "totalSpent"
    )
)
-- Room on each page for the next version of its rows: spending a token then touches no index.
WITH (fillfactor = 70);

-- A referral that earned its token. Either player may have been deleted since.
CREATE TABLE "HeistTokenAward" (
    "id" bigint NOT NULL DEFAULT nextval('"HeistLedger_id_seq"'),
    "referrerId" integer,
    "referredId" integer,
    -- What the signup called the player; null: the name on the account.
    "referredName" text,
    "balanceAfter" integer NOT NULL,
    "createdAt" timestamptz(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "HeistTokenAward_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "HeistTokenAward_referrerId_fkey" FOREIGN KEY ("referrerId")
        REFERENCES "User" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    CONSTRAINT "HeistTokenAward_referredId_fkey" FOREIGN KEY ("referredId")
        REFERENCES "User" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    CONSTRAINT "HeistTokenAward_players_check" CHECK ("referrerId" <> "referredId"),
    CONSTRAINT "HeistTokenAward_balanceAfter_check" CHECK ("balanceAfter" >= 1)
);

-- AwardToken: one token for one referred player, whoever asks and however often.
CREATE UNIQUE INDEX "HeistTokenAward_referredId_key" ON "HeistTokenAward" ("referredId");
-- ListTokenEvents: a player's statement, newest first.
CREATE INDEX "HeistTokenAward_referrerId_id_idx" ON "HeistTokenAward" ("referrerId", "id");

-- A deleted player's name does not outlive their account.
CREATE FUNCTION "HeistTokenAward_forget_referred"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW."referredName" := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER "HeistTokenAward_forget_referred"
BEFORE UPDATE OF "referredId" ON "HeistTokenAward"
FOR EACH ROW WHEN (NEW."referredId" IS NULL)
EXECUTE FUNCTION "HeistTokenAward_forget_referred"();

-- Tokens granted (delta > 0) or revoked by hand.
CREATE TABLE "HeistTokenAdjustment" (
    "id" bigint NOT NULL DEFAULT nextval('"HeistLedger_id_seq"'),
    "userId" integer NOT NULL,
    "delta" integer NOT NULL,
    "balanceAfter" integer NOT NULL,
    "actor" text NOT NULL,
    "reason" text NOT NULL,
    "requestId" uuid NOT NULL,
    "createdAt" timestamptz(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "HeistTokenAdjustment_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "HeistTokenAdjustment_userId_fkey" FOREIGN KEY ("userId")
        REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT "HeistTokenAdjustment_delta_check" CHECK ("delta" <> 0),
    CONSTRAINT "HeistTokenAdjustment_balanceAfter_check" CHECK ("balanceAfter" >= 0),
    CONSTRAINT "HeistTokenAdjustment_reason_check" CHECK (length("reason") BETWEEN 1 AND 500)
);

-- AdjustBalance: the retry of a call finds the first one.
CREATE UNIQUE INDEX "HeistTokenAdjustment_requestId_key" ON "HeistTokenAdjustment" ("requestId");
-- ListTokenEvents: a player's statement, newest first.
CREATE INDEX "HeistTokenAdjustment_userId_id_idx" ON "HeistTokenAdjustment" ("userId", "id");
