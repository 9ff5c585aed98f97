// Reads the environment, and serves until SIGTERM or Ctrl-C:
//
//   PORT               where HTTP is served; default: 8080; 0: any free one
//   HEIST_ADDRESSES    the servers of the heist service, with commas; default: 127.0.0.1:50051
//   HEIST_CA_FILE      the certificate authority of the service; default: no TLS
//   HEIST_TOKEN_FILE   the bearer token to call it with; default: none

import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createHeistClient } from "heist-client";
import { Events } from "./events.ts";
import { createWebServer } from "./server.ts";

const { PORT = "8080", HEIST_ADDRESSES = "127.0.0.1:50051", HEIST_CA_FILE, HEIST_TOKEN_FILE } = process.env;

const client = createHeistClient({
  addresses: HEIST_ADDRESSES.split(","),
  ...(HEIST_CA_FILE && { tls: () => ({ ca: readFileSync(HEIST_CA_FILE, "utf8") }) }),
  ...(HEIST_TOKEN_FILE && { token: () => readFileSync(HEIST_TOKEN_FILE, "utf8").trim() }),
});
const events = new Events(client);
const server = createWebServer(client, events);

events.start();
server.listen(Number(PORT), "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  console.log(`listening on http://127.0.0.1:${port}/`);
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => {
    server.close();
    // Streams end with this, so that the server has no connections left.
    void events.stop().then(() => client.close());
  });
}
