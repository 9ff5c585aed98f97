-- Notifications that are also sent by e-mail: their queue is part of their rows, so that being
-- queued is part of the transaction that they are written in, and no row more.
--
-- Locks: ACCESS EXCLUSIVE on "HeistNotification" while its rows are read once for the index,
-- which is empty: 0.2 s for two million. None on the application's tables.
SET LOCAL lock_timeout = '2s';

CREATE TYPE "HeistEmailState" AS ENUM (
    'QUEUED',
    -- Claimed by a replica: it may be on its way.
    'SENDING',
    'SENT',
    -- Parked: it surely did not leave, and is not tried again.
    'FAILED',
    -- Parked: it may have left, and nobody can tell.
    'UNKNOWN',
    -- The player had no address when it was to be sent.
    'SKIPPED',
    -- Given up by an operator.
    'DROPPED'
);

-- Nullable and without a default: rows that nobody mails stay as long as they are.
ALTER TABLE "HeistNotification"
    -- Null: e-mail was off when the player was notified.
    ADD COLUMN "emailState" "HeistEmailState",
    -- QUEUED: when it is to be sent. SENDING, UNKNOWN: until when the claim holds, or held.
    -- Otherwise when it came into its state.
    ADD COLUMN "emailAt" timestamptz(6),
    -- No attempt begins later. Null: there was none yet.
    ADD COLUMN "emailUntil" timestamptz(6),
    ADD COLUMN "emailAttempts" integer,
    -- Why the last attempt did not succeed. Never an address.
    ADD COLUMN "emailError" text;

-- The worker: what is due, oldest first, and claims that ran out. heist emails: the queue and what
-- is parked.
CREATE INDEX "HeistNotification_email_idx"
ON "HeistNotification" ("emailState", "emailAt", "userId", "id")
WHERE "emailState" IN ('QUEUED', 'SENDING', 'FAILED', 'UNKNOWN');

-- What all replicas have to know of a mail provider. Whoever claims mail holds the row.
CREATE TABLE "HeistEmailProvider" (
    "name" text NOT NULL,
    -- When the mail sent so far has used up its share of the rate: later means that it was faster.
    "paidUntil" timestamptz(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- Nothing is sent before.
    "pausedUntil" timestamptz(6),
    -- What made the last attempt fail for reasons that are not in the mail; null: nothing.
    "trouble" text,
    CONSTRAINT "HeistEmailProvider_pkey" PRIMARY KEY ("name")
);

INSERT INTO "HeistEmailProvider" ("name")
VALUES ('sendgrid'), ('smtp');
