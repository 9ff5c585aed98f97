SET LOCAL lock_timeout = '2s';

DROP INDEX "HeistNotification_read_idx";
DROP TABLE "HeistArchiveTotal";
DROP TABLE "HeistArchiveFile";
