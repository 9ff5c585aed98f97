-- A last line of defence behind the rules: no write leaves a player below zero.
--
-- Locks: ACCESS EXCLUSIVE on "User" for an instant. NOT VALID: rows that are negative
-- already are neither read now nor refused; they are only held to it when next written.
SET LOCAL lock_timeout = '2s';

ALTER TABLE "User"
ADD CONSTRAINT "User_monthlyPoints_check" CHECK ("monthlyPoints" >= 0) NOT VALID;
