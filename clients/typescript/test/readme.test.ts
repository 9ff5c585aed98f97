// A new user copies the lines of the README into an empty project.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { repository } from "./support/index.ts";
import { suite } from "./suite.ts";

const s = suite();
const packageFolder = fileURLToPath(new URL("../", import.meta.url));

/** The code blocks of the README in one language, in their order. */
function blocks(language: string): string[] {
  const readme = readFileSync(join(packageFolder, "README.md"), "utf8");
  return [...readme.matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter((match) => match[1] === language)
    .map((match) => match[2]!);
}

it("robs with the lines of the README in an empty project", async () => {
  const project = await mkdtemp(join(tmpdir(), "heist-client-"));
  s.cleanup.add(() => rm(project, { recursive: true }));
  const { address } = await s.serve();
  const client = s.client(address);
  const attacker = await s.robber(client);
  const [victim] = (await s.database.players("Bruno")) as [number];
  const [build, install, run] = blocks("sh") as [string, string, string];
  const [rob] = blocks("ts") as [string];
  const shell = async (commands: string, cwd: string) => {
    const env = { ...process.env, HEIST_REPOSITORY: fileURLToPath(repository), npm_config_ignore_scripts: "true" };
    return (await promisify(execFile)("sh", ["-euc", commands], { cwd, env })).stdout;
  };

  // scripts/test-examples has installed and built the package.
  const pack = build.split("\n").filter((line) => line.startsWith("npm pack"));
  await shell(pack.join("\n"), packageFolder);
  await shell(install, project);
  const adapted = rob
    .replace("127.0.0.1:50051", address)
    .replace("attackerId: 1, victimId: 2", `attackerId: ${attacker}, victimId: ${victim}`);
  writeFileSync(join(project, "rob.ts"), adapted);

  const tsc = join(packageFolder, "node_modules/.bin/tsc");
  await shell(`"${tsc}" --noEmit --strict --module nodenext --target es2022 rob.ts`, project);
  assert.equal(await shell(run, project), "Robber stole 50 points from Bruno.\nTokens left: 0.\n");
  assert.match(await shell(run, project), /^The attacker|^Not before/);
});
