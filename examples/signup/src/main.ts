// Reads the environment, and serves until SIGTERM or Ctrl-C:
//
//   DATABASE_URL       the application's database, with the table of outbox.sql
//   PORT               where HTTP is served; default: 3000; 0: any free one
//   HEIST_ADDRESSES    the servers of the heist service, with commas; default: 127.0.0.1:50051
//   HEIST_CA_FILE      the certificate authority of the service; default: no TLS
//   HEIST_TOKEN_FILE   the bearer token to call it with; default: none

import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createHeistClient } from "heist-client";
import { Awards } from "./awards.ts";
import { connect } from "./db.ts";
import { createSignupServer } from "./server.ts";

const {
  DATABASE_URL,
  PORT = "3000",
  HEIST_ADDRESSES = "127.0.0.1:50051",
  HEIST_CA_FILE,
  HEIST_TOKEN_FILE,
} = process.env;

if (!DATABASE_URL) {
  console.error("DATABASE_URL is not set");
  process.exit(1);
}

const pool = connect(DATABASE_URL);
const client = createHeistClient({
  addresses: HEIST_ADDRESSES.split(","),
  // Read with every connection and every call, so that replacing the files is enough.
  ...(HEIST_CA_FILE && { tls: () => ({ ca: readFileSync(HEIST_CA_FILE, "utf8") }) }),
  ...(HEIST_TOKEN_FILE && { token: () => readFileSync(HEIST_TOKEN_FILE, "utf8").trim() }),
});
const awards = new Awards({
  database: pool,
  client,
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
      void awards.stop().then(() => {
        client.close();
        return pool.end();
      });
    });
  });
}
