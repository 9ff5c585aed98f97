-- Secrets that all replicas share and nobody has to configure.
--
-- Locks: none.
CREATE TABLE "HeistSecret" (
    "name" text NOT NULL,
    "value" text NOT NULL,
    CONSTRAINT "HeistSecret_pkey" PRIMARY KEY ("name")
);

-- Signs page tokens. 244 random bits.
INSERT INTO "HeistSecret" ("name", "value")
VALUES ('page-token-key', gen_random_uuid()::text || gen_random_uuid()::text);
