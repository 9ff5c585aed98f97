// Reads the environment, and serves until SIGTERM or Ctrl-C:
//
//   DATABASE_URL       the application's database, with the table of outbox.sql
//   PORT               where HTTP is served; default: 3000; 0: any free one
//   HEIST_ADDRESS      the heist service; default: 127.0.0.1:50051
//   HEIST_CA_FILE      the certificate authority of the service; default: no TLS
//   HEIST_TOKEN_FILE   the bearer token to call it with; default: none
//   HEIST_PROTO_DIR    the folder that holds heist/v1/token.proto; default: that of the repository

import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { Awards } from "./awards.ts";
import { connect } from "./db.ts";
import { createSignupServer } from "./server.ts";

const {
  DATABASE_URL,
  PORT = "3000",
  HEIST_ADDRESS = "127.0.0.1:50051",
  HEIST_CA_FILE,
  HEIST_TOKEN_FILE,
  HEIST_PROTO_DIR = fileURLToPath(new URL("../../../proto", import.meta.url)),
} = process.env;

if (!DATABASE_URL) {
  console.error("DATABASE_URL is not set");
  process.exit(1);
}

const pool = connect(DATABASE_URL);
const awards = new Awards({
  database: pool,
  address: HEIST_ADDRESS,
  credentials: HEIST_CA_FILE
    ? grpc.credentials.createSsl(readFileSync(HEIST_CA_FILE))
    : grpc.credentials.createInsecure(),
  // Read with every call, so that replacing the file is enough to rotate the token.
  ...(HEIST_TOKEN_FILE && { bearerToken: () => readFileSync(HEIST_TOKEN_FILE, "utf8").trim() }),
  protoFolder: HEIST_PROTO_DIR,
  log: (event) => console.error(JSON.stringify(event)),
});
const server = createSignupServer(pool, awards);

awards.start();
server.listen(Number(PORT), "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  console.log(`listening on http://127.0.0.1:${port}`);
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => {
    // No new signups; then the calls that they began; then the connections that those use.
    server.close(() => {
      void awards.stop().then(() => pool.end());
    });
  });
}
