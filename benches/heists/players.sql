-- Players 1 to $PLAYERS with points to lose, some rich and many not, and tokens that never
-- run out. The tokens were granted by hand, so that the books know where they come from.
SELECT setseed(0.5);

INSERT INTO "User" ("name", "email", "monthlyPoints")
SELECT
    'Player ' || number,
    'player' || number || '@example.com',
    1000 + (-ln(1 - random()) * 5000)::integer
FROM generate_series(1, $PLAYERS) AS number;

INSERT INTO "HeistTokenAdjustment"
    ("userId", "delta", "balanceAfter", "actor", "reason", "requestId")
SELECT number, 1000000, 1000000, 'bench', 'for the benchmark', gen_random_uuid()
FROM generate_series(1, $PLAYERS) AS number;

INSERT INTO "HeistToken" ("userId", "balance", "totalEarned")
SELECT number, 1000000, 1000000
FROM generate_series(1, $PLAYERS) AS number;
