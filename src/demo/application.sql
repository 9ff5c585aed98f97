-- The application's tables with the names, types, constraints and indexes that Prisma creates. Only
-- the demo and the tests use this file; in production the application has created its tables.

CREATE TABLE "User" (
    "id" SERIAL NOT NULL,
    "name" TEXT NOT NULL,
    "email" TEXT,
    "monthlyPoints" INTEGER NOT NULL DEFAULT 0,
    "referredByUserId" INTEGER,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "User_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "PointEventTypeMaster" (
    "id" SERIAL NOT NULL,
    "name" TEXT NOT NULL,
    "description" TEXT NOT NULL,

    CONSTRAINT "PointEventTypeMaster_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "UserPointEvent" (
    "id" SERIAL NOT NULL,
    "userId" INTEGER NOT NULL,
    "points" INTEGER NOT NULL,
    "pointEventTypeId" INTEGER NOT NULL,
    "description" TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "UserPointEvent_pkey" PRIMARY KEY ("id")
);

CREATE UNIQUE INDEX "User_email_key" ON "User"("email");

CREATE UNIQUE INDEX "PointEventTypeMaster_name_key" ON "PointEventTypeMaster"("name");

CREATE INDEX "UserPointEvent_userId_idx" ON "UserPointEvent"("userId");

ALTER TABLE "User" ADD CONSTRAINT "User_referredByUserId_fkey"
    FOREIGN KEY ("referredByUserId") REFERENCES "User"("id") ON DELETE SET NULL ON UPDATE CASCADE;

ALTER TABLE "UserPointEvent" ADD CONSTRAINT "UserPointEvent_userId_fkey"
    FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE ON UPDATE CASCADE;

ALTER TABLE "UserPointEvent" ADD CONSTRAINT "UserPointEvent_pointEventTypeId_fkey"
    FOREIGN KEY ("pointEventTypeId") REFERENCES "PointEventTypeMaster"("id")
    ON DELETE RESTRICT ON UPDATE CASCADE;
