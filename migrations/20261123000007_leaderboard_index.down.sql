SET LOCAL lock_timeout = '2s';

DROP INDEX "User_monthlyPoints_id_idx";
