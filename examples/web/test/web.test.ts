// Two players in two windows of a real browser, against the real service.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { createHeistClient } from "heist-client";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { Cleanup, Heist, TestDatabase } from "../../../clients/typescript/test/support/index.ts";
import { signIn, startBrowser, startWeb } from "./harness.ts";

const cleanup = new Cleanup();
let database: TestDatabase;
let heist: Heist;
let url: string;
let browser: Browser;
let context: BrowserContext;
let ada: Page;
let bruno: Page;
let ids: { ada: number; bruno: number; carl: number; dora: number };

before(async () => {
  database = await TestDatabase.create(cleanup);
  const [adaId, brunoId, carl, dora] = (await database.players("Ada", "Bruno", "Carl", "Dora")) as [number, number, number, number];
  ids = { ada: adaId, bruno: brunoId, carl, dora };
  await database.rows(`UPDATE "User" SET "monthlyPoints" = 19 WHERE "name" = 'Dora'`);
  heist = await Heist.start(cleanup, database);
  const client = createHeistClient({ addresses: heist.address });
  for (const userId of [adaId, brunoId]) await client.adjustBalance({ userId, delta: 2, reason: "for the test" });
  client.close();
  url = await startWeb(cleanup, heist.address);
  browser = await startBrowser(cleanup);
  context = await browser.newContext();
  [ada, bruno] = [await context.newPage(), await context.newPage()];
  for (const page of [ada, bruno]) {
    page.setDefaultTimeout(30_000);
    page.on("pageerror", (error) => assert.fail(`the page has a defect: ${error.stack}`));
  }
});
after(() => cleanup.run());

const row = (page: Page, name: string) => page.getByRole("row", { name: new RegExp(`\\b${name}\\b`) });
const figure = (page: Page, id: "points" | "tokens" | "unread", value: string) =>
  page.locator(`#${id}`, { hasText: new RegExp(`^${value}$`) }).waitFor();

it("two windows are two players, and each sees who can be robbed and what it would bring", async () => {
  await signIn(ada, url, "Ada");
  await signIn(bruno, url, "Bruno");
  await figure(ada, "points", "1000");
  await figure(ada, "tokens", "2");
  await ada.getByRole("button", { name: "Rob Bruno of 50 points" }).waitFor();
  await row(ada, "Dora").getByText("Too poor").waitFor();
  await row(ada, "Ada").getByText("You", { exact: true }).waitFor();
  await ada.getByText("You were in no heist yet.").waitFor();
});

it("a robbery arrives in the other window by itself", async () => {
  await figure(bruno, "unread", "0");
  await ada.getByRole("button", { name: "Rob Bruno of 50 points" }).click();
  await ada.getByRole("status").getByText("You stole 50 points from Bruno.").waitFor();
  await bruno.getByRole("alert").getByText("You were robbed! Ada stole 50 of your monthly points.").waitFor();
  await figure(bruno, "unread", "1");
  await figure(bruno, "points", "950");
  await figure(ada, "points", "1050");
  await figure(ada, "tokens", "1");
  await ada.getByText("from Bruno", { exact: true }).waitFor();
  await bruno.getByText("to Ada", { exact: true }).waitFor();
});

it("the bell opens the notifications, and has then none that are unread", async () => {
  await bruno.getByRole("button", { name: "1 unread notifications" }).click();
  await bruno.getByRole("region", { name: "Notifications" }).getByText("You were robbed!").waitFor();
  await figure(bruno, "unread", "0");
});

it("a cooldown is a sentence, on the board and where a robbery is refused", async () => {
  await row(ada, "Carl").getByText("You wait another 24 hours").waitFor();
  // A click on a button that the page still had.
  const answer = await ada.evaluate(async (victimId) => {
    const response = await fetch("heists", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ victimId, victimName: "Carl", requestId: crypto.randomUUID() }),
    });
    return (await response.json()) as { done: boolean; message: string };
  }, ids.carl);
  assert.deepEqual(answer, { done: false, message: "You can rob again in 24 hours." });
});

it("the service may restart in between: what happens meanwhile is there afterwards, and live", async () => {
  await heist.kill();
  heist = await Heist.start(cleanup, database, { port: heist.port });
  await bruno.getByRole("button", { name: "Rob Carl of 50 points" }).click();
  await bruno.getByRole("status").getByText("You stole 50 points from Carl.").waitFor();

  // Of another server, which the web server does not know.
  const other = await Heist.start(cleanup, database, { env: { HEIST_COOLDOWN: "0s" } });
  const client = createHeistClient({ addresses: other.address });
  await client.executeHeist({ attackerId: ids.bruno, victimId: ids.ada });
  client.close();
  await ada.getByRole("alert").getByText("You were robbed! Bruno stole").waitFor();
});

it("a player chooses how e-mail comes, and finds the choice again", async () => {
  const choices = ada.getByRole("group", { name: "E-mail about heists and tokens" });
  assert.ok(await choices.getByRole("radio", { name: "As the game is set up" }).isChecked());
  await choices.getByRole("radio", { name: "Once a day" }).check();
  await ada.getByRole("status").getByText("Your choice is saved.").waitFor();
  assert.deepEqual(
    await database.rows(`SELECT "email" FROM "HeistNotificationPreference" WHERE "userId" = $1`, [ids.ada]),
    [{ email: "DIGEST" }],
  );
  await ada.reload();
  await ada.locator("input[value=digest]:checked").waitFor();
});

it("without a session there is no board, and no other player's", async () => {
  const stranger = await browser.newContext();
  const anonymous = await stranger.request.get(`${url}players/${ids.ada}/board`);
  assert.equal(anonymous.status(), 401);
  const cookies = await context.cookies(`${url}players/${ids.ada}/`);
  const other = await stranger.request.get(`${url}players/${ids.bruno}/board`, {
    headers: { cookie: `session=${cookies[0]!.value}` },
  });
  assert.equal(other.status(), 401);
  await stranger.close();
});

it("a form of another site cannot rob", async () => {
  const response = await context.request.post(`${url}players/${ids.ada}/heists`, {
    headers: { "content-type": "text/plain" },
    data: "{}",
  });
  assert.equal(response.status(), 415);
});

it("is readable on a phone, without scrolling sideways", async () => {
  await ada.setViewportSize({ width: 360, height: 740 });
  const overflow = await ada.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} px too wide`);
});

it("signs out", async () => {
  await bruno.getByRole("button", { name: "Sign out" }).click();
  await bruno.getByText("Who are you?").waitFor();
  assert.equal((await context.request.get(`${url}players/${ids.bruno}/board`)).status(), 401);
});
