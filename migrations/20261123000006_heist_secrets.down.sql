DROP TABLE "HeistSecret";
