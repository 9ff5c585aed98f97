-- How players want to receive notifications by e-mail. The worker reads a player's preference when
-- it claims an e-mail, so that a change applies at once to e-mails that are queued.
--
-- Locks: SHARE ROW EXCLUSIVE on "User" for an instant, for the foreign key of an empty table.
SET LOCAL lock_timeout = '2s';

CREATE TYPE "HeistEmailPreference" AS ENUM (
    -- One e-mail per notification.
    'IMMEDIATE',
    -- One e-mail a day.
    'DIGEST',
    -- No e-mail.
    'NEVER'
);

-- A player without a row has no preference: the mode of the service applies.
CREATE TABLE "HeistNotificationPreference" (
    "userId" integer NOT NULL,
    -- Null: the mode of the service applies.
    "email" "HeistEmailPreference",
    -- The e-mails that were queued before the last change are not rescheduled yet.
    "pending" boolean NOT NULL DEFAULT true,
    "updatedAt" timestamptz(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "HeistNotificationPreference_pkey" PRIMARY KEY ("userId"),
    CONSTRAINT "HeistNotificationPreference_userId_fkey" FOREIGN KEY ("userId")
        REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

-- The e-mail worker: changes whose queued e-mails have to be rescheduled.
CREATE INDEX "HeistNotificationPreference_pending_idx"
ON "HeistNotificationPreference" ("userId")
WHERE "pending";
