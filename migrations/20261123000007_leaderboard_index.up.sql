-- The monthly board, its pages and ranks: GetLeaderboard.
--
-- Locks: SHARE on "User" while the index is built, about a second for a million players;
-- reads go on, writes wait. On a larger table build it beforehand, without waits, under the
-- same name, and the migration finds it:
--   CREATE INDEX CONCURRENTLY "User_monthlyPoints_id_idx" ON "User" ("monthlyPoints", "id");
-- Not CONCURRENTLY here: that waits for every other session, and a replica that queues for
-- the migrations' lock is one, which waits for us.
SET LOCAL lock_timeout = '2s';

CREATE INDEX IF NOT EXISTS "User_monthlyPoints_id_idx" ON "User" ("monthlyPoints", "id");
