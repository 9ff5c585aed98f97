// Serves the page on port 8080:
//
//   UNSUBSCRIBE_KEY=a-long-random-text HEIST_TOKEN=… npm start

import { createServer } from "node:http";
import { createHeistClient, EmailPreference } from "heist-client";
import { unsubscribePage } from "./unsubscribe.ts";

const { HEIST_ADDRESS: addresses = "127.0.0.1:50051", HEIST_TOKEN: token, UNSUBSCRIBE_KEY: key } = process.env;
if (!key) throw new Error("UNSUBSCRIBE_KEY is not set");
const client = createHeistClient(token ? { addresses, token: () => token } : { addresses });

const page = unsubscribePage(key, async (player) => {
  await client.updatePreferences({ userId: player, email: EmailPreference.NEVER });
});
createServer(page).listen(8080);
