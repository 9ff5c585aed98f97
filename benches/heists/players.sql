-- Players 1 to $PLAYERS with exponentially distributed points and a million tokens each. The
-- tokens come from adjustments, so that the books explain them.
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
