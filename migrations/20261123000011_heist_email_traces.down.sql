SET LOCAL lock_timeout = '2s';

ALTER TABLE "HeistNotification" DROP COLUMN "emailTrace";
