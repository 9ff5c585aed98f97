SET LOCAL lock_timeout = '2s';

DROP TABLE "HeistEmailProvider";
DROP INDEX "HeistNotification_email_idx";

ALTER TABLE "HeistNotification"
    DROP COLUMN "emailState",
    DROP COLUMN "emailAt",
    DROP COLUMN "emailUntil",
    DROP COLUMN "emailAttempts",
    DROP COLUMN "emailError";

DROP TYPE "HeistEmailState";
