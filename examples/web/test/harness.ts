// The web server as a process of its own, and two windows of one browser.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { type Cleanup, end, firstLine } from "../../../clients/typescript/test/support/index.ts";

const packageFolder = fileURLToPath(new URL("../", import.meta.url));

/** Starts the web server, and answers its address. */
export async function startWeb(cleanup: Cleanup, heistAddress: string): Promise<string> {
  const child = spawn(process.execPath, ["--import", "tsx", "src/main.ts"], {
    cwd: packageFolder,
    env: { ...process.env, PORT: "0", HEIST_ADDRESSES: heistAddress },
    stdio: ["ignore", "pipe", "inherit"],
  });
  cleanup.add(() => end(child, "SIGKILL"));
  return firstLine(child.stdout!, (line) => line.split("listening on ")[1]);
}

/** Starts the browser that CHROMIUM names. */
export async function startBrowser(cleanup: Cleanup): Promise<Browser> {
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  const browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  cleanup.add(() => browser.close());
  return browser;
}

/** Signs in by clicking the player's name. */
export async function signIn(page: Page, url: string, name: string): Promise<void> {
  await page.goto(url);
  await page.getByRole("button", { name: new RegExp(`^${name}\\b`) }).click();
  await page.getByRole("heading", { level: 1, name }).waitFor();
}
