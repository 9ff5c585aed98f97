-- Fifty players for an empty database. Their ids are 1 to 50, in this order.
--
-- The points cover the edges of the rules. Greta has the minimum for a victim, Hiro one point less,
-- Ines 0 and Jamal 5. A heist on Chiara or Keiko steals the cap of 100 points. Wei (49) and
-- Yusuf (50) signed up with a referral code: awarding their tokens lets Bruno (2) and Ada (1)
-- execute a heist.

-- One statement, because it checks the foreign key at its end: a player may name any other player
-- as referrer.
INSERT INTO "User" ("name", "email", "monthlyPoints", "referredByUserId") VALUES
    ('Ada',        'ada@example.com',       1200, NULL),
    ('Bruno',      'bruno@example.com',     1000, NULL),
    ('Chiara',     'chiara@example.com',    5000, NULL),
    ('Dmitri',     'dmitri@example.com',     139, NULL),
    ('Efua',       'efua@example.com',       107,    1),
    ('Farid',      'farid@example.com',      289,    1),
    ('Greta',      'greta@example.com',       20, NULL),
    ('Hiro',       'hiro@example.com',        19, NULL),
    ('Ines',       NULL,                       0, NULL),
    ('Jamal',      'jamal@example.com',        5, NULL),
    ('Keiko',      'keiko@example.com',     5940, NULL),
    ('Lars',       'lars@example.com',        97,    1),
    ('Mei',        'mei@example.com',        211, NULL),
    ('Nikhil',     'nikhil@example.com',     149,    2),
    ('Olga',       'olga@example.com',        96, NULL),
    ('Paulo',      'paulo@example.com',      197, NULL),
    ('Qadira',     'qadira@example.com',      93,    3),
    ('Ravi',       'ravi@example.com',       169,    3),
    ('Sofia',      NULL,                     100, NULL),
    ('Tariq',      'tariq@example.com',      166, NULL),
    ('Uma',        'uma@example.com',        631,    1),
    ('Viktor',     'viktor@example.com',     104, NULL),
    ('Wanjiru',    'wanjiru@example.com',    119, NULL),
    ('Xavier',     'xavier@example.com',     269, NULL),
    ('Yara',       'yara@example.com',      2388,    5),
    ('Zoltan',     'zoltan@example.com',     234,    5),
    ('Amara',      'amara@example.com',      157, NULL),
    ('Bilal',      NULL,                      94, NULL),
    ('Carmen',     'carmen@example.com',     790, NULL),
    ('Diego',      'diego@example.com',      131,   12),
    ('Elif',       'elif@example.com',       103, NULL),
    ('Femi',       'femi@example.com',       135, NULL),
    ('Guadalupe',  'guadalupe@example.com',  590,    2),
    ('Henrik',     'henrik@example.com',     112, NULL),
    ('Ingrid',     'ingrid@example.com',     236, NULL),
    ('Jun',        'jun@example.com',        279,   14),
    ('Kwame',      NULL,                     151, NULL),
    ('Leila',      'leila@example.com',      217, NULL),
    ('Mateo',      'mateo@example.com',      116, NULL),
    ('Nadia',      'nadia@example.com',      319, NULL),
    ('Oisin',      'oisin@example.com',      167,   17),
    ('Priya',      'priya@example.com',      136, NULL),
    ('Quentin',    'quentin@example.com',    239, NULL),
    ('Rosa',       NULL,                     176, NULL),
    ('Samir',      'samir@example.com',      133, NULL),
    ('Thandi',     'thandi@example.com',     521, NULL),
    ('Ulrich',     'ulrich@example.com',     341, NULL),
    ('Valentina',  'valentina@example.com',  122, NULL),
    ('Wei',        'wei@example.com',        232,    2),
    ('Yusuf',      'yusuf@example.com',      205,    1);

INSERT INTO "PointEventTypeMaster" ("name", "description") VALUES
    ('DAILY_LOGIN',    'Opened the app on a new day'),
    ('QUIZ_COMPLETED', 'Finished a quiz'),
    ('REFERRAL_BONUS', 'A new player signed up with this player''s code');

-- The point events of each player: 100 points for every referral, but no more than the player has,
-- up to 50 for logging in, and the rest for quizzes. So the events of a player add up to the
-- player's points.
WITH referral AS (
    SELECT
        referrer."id" AS referrer_id,
        count(referred."id") * 100 AS points
    FROM "User" AS referrer
    JOIN "User" AS referred ON referred."referredByUserId" = referrer."id"
    GROUP BY referrer."id"
),
bonus AS (
    SELECT
        player."id" AS player_id,
        player."monthlyPoints" AS total,
        least(player."monthlyPoints", coalesce(referral.points, 0)) AS points
    FROM "User" AS player
    LEFT JOIN referral ON referral.referrer_id = player."id"
),
login AS (
    SELECT
        player_id,
        least(total - points, 50) AS points
    FROM bonus
),
earned AS (
    SELECT player_id, 'REFERRAL_BONUS' AS type_name, points FROM bonus
    UNION ALL
    SELECT player_id, 'DAILY_LOGIN', points FROM login
    UNION ALL
    SELECT player_id, 'QUIZ_COMPLETED', total - bonus.points - login.points
    FROM bonus
    JOIN login USING (player_id)
)
INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId", "description")
SELECT
    earned.player_id,
    earned.points,
    event_type."id",
    event_type."description"
FROM earned
JOIN "PointEventTypeMaster" AS event_type ON event_type."name" = earned.type_name
WHERE earned.points > 0
ORDER BY earned.player_id, event_type."id";
