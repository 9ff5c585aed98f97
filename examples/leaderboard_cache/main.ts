// Prints the first 50 places of the leaderboard whenever they change:
//
//   npm start
//   npm start -- 127.0.0.1:50051 127.0.0.1:50052

import { createHeistClient } from "heist-client";
import { keepBoard } from "./cache.ts";

const PLACES = 50;

const addresses = process.argv.slice(2);
const client = createHeistClient({ addresses: addresses.length > 0 ? addresses : "127.0.0.1:50051" });
const stopping = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stopping.abort());

await keepBoard(
  client,
  PLACES,
  ({ places }) => {
    console.log("--");
    for (const [index, { name, monthlyPoints }] of places.entries()) {
      console.log(`${String(index + 1).padStart(3)} ${String(monthlyPoints).padStart(8)} ${name}`);
    }
  },
  stopping.signal,
);
client.close();
