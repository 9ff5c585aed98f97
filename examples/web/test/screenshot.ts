// Draws docs/images/web.png: what Ada sees right after a robbery. `scripts/test-examples screenshot` runs it.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createHeistClient } from "heist-client";
import { Cleanup, Heist, repository, TestDatabase } from "../../../clients/typescript/test/support/index.ts";
import { signIn, startBrowser, startWeb } from "./harness.ts";

const cleanup = new Cleanup();
try {
  const database = await TestDatabase.create(cleanup);
  await database.pool.query(readFileSync(new URL("src/demo/players.sql", repository), "utf8"));
  const heist = await Heist.start(cleanup, database);
  const client = createHeistClient({ addresses: heist.address });
  const idOf = async (name: string) => {
    const [player] = await database.rows<{ id: number }>(`SELECT "id" FROM "User" WHERE "name" = $1`, [name]);
    return player!.id;
  };
  for (const name of ["Ada", "Bruno", "Chiara"]) {
    await client.adjustBalance({ userId: await idOf(name), delta: 3, reason: "for the picture" });
  }
  await client.executeHeist({ attackerId: await idOf("Chiara"), victimId: await idOf("Ada") });

  const page = await (await startBrowser(cleanup)).newPage({ viewport: { width: 960, height: 860 }, locale: "en-GB" });
  await signIn(page, await startWeb(cleanup, heist.address), "Ada");
  await client.executeHeist({ attackerId: await idOf("Bruno"), victimId: await idOf("Ada") });
  await page.getByRole("alert").getByText("You were robbed!").waitFor();
  await page.getByRole("button", { name: "unread notifications" }).click();
  await page.getByRole("region", { name: "Notifications" }).getByText("Bruno stole").waitFor();
  await page.getByText("to Bruno", { exact: true }).waitFor();
  await page.screenshot({ path: fileURLToPath(new URL("docs/images/web.png", repository)) });
  client.close();
} finally {
  await cleanup.run();
}
