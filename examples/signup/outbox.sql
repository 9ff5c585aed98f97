-- The awards that signups owe their referrers. A row is written by the transaction that makes
-- the user, so that there is an award wherever there is a referral, and none where there is not.
CREATE TABLE "HeistAwardOutbox" (
    -- A player is referred once, so this is also what makes an award unique.
    "referredId" INTEGER NOT NULL,
    "referrerId" INTEGER NOT NULL,
    -- Deliveries begun. The signup's own call is the first.
    "attempts" INTEGER NOT NULL DEFAULT 1,
    -- Until then the award belongs to whoever attempts it now; from then on to whoever claims it.
    "nextAttemptAt" TIMESTAMPTZ(6) NOT NULL,
    -- Why the last delivery failed; null where none has failed, or none any more.
    "lastError" TEXT,
    -- When the service answered for good, and with which refusal; null: the token was awarded.
    "settledAt" TIMESTAMPTZ(6),
    "refusal" TEXT,
    "createdAt" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "HeistAwardOutbox_pkey" PRIMARY KEY ("referredId"),
    -- Nothing is owed for, or to, a player who is gone.
    CONSTRAINT "HeistAwardOutbox_referredId_fkey" FOREIGN KEY ("referredId")
        REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT "HeistAwardOutbox_referrerId_fkey" FOREIGN KEY ("referrerId")
        REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- Claiming what is due reads only what is open, however many awards were settled before.
CREATE INDEX "HeistAwardOutbox_due_idx" ON "HeistAwardOutbox" ("nextAttemptAt")
    WHERE "settledAt" IS NULL;

-- Deleting a player.
CREATE INDEX "HeistAwardOutbox_referrerId_idx" ON "HeistAwardOutbox" ("referrerId");
