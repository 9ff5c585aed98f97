-- Where a mail belongs in a trace: it is sent long after the call that was its reason has ended, and
-- by any replica.
--
-- Locks: ACCESS EXCLUSIVE on "HeistNotification" for a moment: nothing is rewritten. None on the
-- application's tables.
SET LOCAL lock_timeout = '2s';

-- Null: the call was not traced, or e-mail was off. A W3C "traceparent".
ALTER TABLE "HeistNotification" ADD COLUMN "emailTrace" text;
