// Draws the images of docs/email.md: the samples of `heist emails preview`.
// `scripts/test-examples screenshot` runs it.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Cleanup, repository } from "../../../clients/typescript/test/support/index.ts";
import { startBrowser } from "./harness.ts";

const IMAGES = [
  { name: "email", kind: "heist_victim", colorScheme: "light" },
  { name: "email-digest", kind: "digest", colorScheme: "light" },
  { name: "email-digest-dark", kind: "digest", colorScheme: "dark" },
] as const;

const cleanup = new Cleanup();
try {
  const folder = mkdtempSync(join(tmpdir(), "heist-emails-"));
  cleanup.add(() => rmSync(folder, { recursive: true }));
  const heist = process.env["HEIST_BIN"] ?? "heist";
  execFileSync(heist, ["emails", "preview", "--out", folder]);
  const browser = await startBrowser(cleanup);
  for (const { name, kind, colorScheme } of IMAGES) {
    const page = await browser.newPage({ viewport: { width: 640, height: 100 }, colorScheme });
    await page.goto(pathToFileURL(join(folder, "en", `${kind}.html`)).href);
    const path = fileURLToPath(new URL(`docs/images/${name}.png`, repository));
    await page.screenshot({ path, fullPage: true });
  }
} finally {
  await cleanup.run();
}
