SET LOCAL lock_timeout = '2s';

ALTER TABLE "User" DROP CONSTRAINT "User_monthlyPoints_check";
