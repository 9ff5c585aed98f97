SET LOCAL lock_timeout = '2s';

DROP TABLE "Heist";
DROP FUNCTION "Heist_forget_attacker"();
