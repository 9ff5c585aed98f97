-- What `heist archive` moved to files, and what the books have to remember of it.
--
-- Locks: SHARE ROW EXCLUSIVE on "User" for an instant, as the foreign keys before. SHARE on
-- "HeistNotification" while the index is built, 0.7 s for two million rows, half of them read: heists
-- wait.
SET LOCAL lock_timeout = '2s';

CREATE SEQUENCE "HeistArchiveFile_id_seq" AS bigint;

-- Every file, from the moment that a run begins to write it. Those with "sha256" were verified;
-- no others count.
CREATE TABLE "HeistArchiveFile" (
    "id" bigint NOT NULL DEFAULT nextval('"HeistArchiveFile_id_seq"'),
    -- What its rows are.
    "kind" text NOT NULL,
    -- Its rows were created before.
    "cutoff" timestamptz(6) NOT NULL,
    -- The run that works on it. Whoever takes over replaces it, and what the run before may
    -- still try comes to nothing.
    "runId" uuid NOT NULL,
    -- Null until the file is on disk and was read back: only then are its rows removed.
    "rows" bigint,
    "sha256" text,
    "firstRowId" bigint,
    "lastRowId" bigint,
    "createdAt" timestamptz(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- Null until its rows are removed.
    "finishedAt" timestamptz(6),
    CONSTRAINT "HeistArchiveFile_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "HeistArchiveFile_kind_check" CHECK ("kind" IN ('heists', 'notifications')),
    CONSTRAINT "HeistArchiveFile_verified_check" CHECK (
        num_nulls("rows", "sha256", "firstRowId", "lastRowId") IN (0, 4)
        AND ("finishedAt" IS NULL OR "sha256" IS NOT NULL)
    )
);

ALTER SEQUENCE "HeistArchiveFile_id_seq" OWNED BY "HeistArchiveFile"."id";

-- heist archive: one file at a time, and which one was interrupted.
CREATE UNIQUE INDEX "HeistArchiveFile_unfinished_key" ON "HeistArchiveFile" ((true))
WHERE "finishedAt" IS NULL;

-- What a player's archived rows came to. Written in the transaction that removes them.
CREATE TABLE "HeistArchiveTotal" (
    "userId" integer NOT NULL,
    "heistsAsAttacker" integer NOT NULL DEFAULT 0,
    "heistsAsVictim" integer NOT NULL DEFAULT 0,
    "pointsStolen" bigint NOT NULL DEFAULT 0,
    "pointsLost" bigint NOT NULL DEFAULT 0,
    -- The newest archived heist that the player spent a token on: with the balance after it
    -- their statement begins. Null: there is none.
    "lastSpendId" bigint,
    "lastSpendTokensAfter" integer,
    "lastSpendAt" timestamptz(6),
    -- Notifications of heists as attacker, as victim, and of tokens earned.
    "successNotifications" integer NOT NULL DEFAULT 0,
    "victimNotifications" integer NOT NULL DEFAULT 0,
    "earnedNotifications" integer NOT NULL DEFAULT 0,
    CONSTRAINT "HeistArchiveTotal_pkey" PRIMARY KEY ("userId"),
    CONSTRAINT "HeistArchiveTotal_userId_fkey" FOREIGN KEY ("userId")
        REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT "HeistArchiveTotal_lastSpend_check" CHECK (
        num_nulls("lastSpendId", "lastSpendTokensAfter", "lastSpendAt") IN (0, 3)
    )
);

-- heist archive: read notifications, oldest first. Unread ones are not in it, so that a heist
-- does not pay for it; marking as read does.
CREATE INDEX "HeistNotification_read_idx" ON "HeistNotification" ("id") WHERE "read";
