-- What players are told. A row holds the facts; titles and texts are made from them when
-- they are read, so that rows stay small and the name of a deleted player is in none.
--
-- Locks: as the migrations before, SHARE ROW EXCLUSIVE on "User" for an instant.
SET LOCAL lock_timeout = '2s';

CREATE TYPE "HeistNotificationType" AS ENUM ('HEIST_SUCCESS', 'HEIST_VICTIM', 'TOKEN_EARNED');

CREATE SEQUENCE "HeistNotification_id_seq" AS bigint;

CREATE TABLE "HeistNotification" (
    "userId" integer NOT NULL,
    -- Drawn while the player's row is locked: it grows in commit order for each player.
    "id" bigint NOT NULL DEFAULT nextval('"HeistNotification_id_seq"'),
    "type" "HeistNotificationType" NOT NULL,
    "read" boolean NOT NULL DEFAULT false,
    -- The "Heist" or "HeistTokenAward" it tells of. Not a foreign key: the notification
    -- outlives a heist that was archived.
    "ledgerId" bigint NOT NULL,
    -- The victim, the attacker or the referred player. Not a foreign key: a deleted
    -- player's number stays, and names nobody.
    "otherUserId" integer NOT NULL,
    -- Points stolen or lost; 0 for TOKEN_EARNED.
    "points" integer NOT NULL DEFAULT 0,
    -- The player's points, or for TOKEN_EARNED their tokens, after it.
    "after" integer NOT NULL,
    -- Until when the robbery left the victim protected.
    "protectionEndsAt" timestamptz(6),
    "createdAt" timestamptz(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- ListNotifications, StreamNotifications.
    CONSTRAINT "HeistNotification_pkey" PRIMARY KEY ("userId", "id"),
    CONSTRAINT "HeistNotification_userId_fkey" FOREIGN KEY ("userId")
        REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE
);

ALTER SEQUENCE "HeistNotification_id_seq" OWNED BY "HeistNotification"."id";

-- GetUnreadCount, ListNotifications of the unread ones, MarkNotificationsRead.
CREATE INDEX "HeistNotification_unread_idx" ON "HeistNotification" ("userId", "id") WHERE NOT "read";
