SET LOCAL lock_timeout = '2s';

DROP TABLE "HeistTokenAdjustment";
DROP TABLE "HeistTokenAward";
DROP FUNCTION "HeistTokenAward_forget_referred"();
DROP TABLE "HeistToken";
DROP SEQUENCE "HeistLedger_id_seq";
