import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

/** The root of the repository. */
export const repository = new URL("../../../../", import.meta.url);

/** What scripts/test-examples sets. */
export function setting(name: "DATABASE_URL" | "HEIST_BIN"): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; scripts/test-examples sets it`);
  return value;
}

export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  await exited;
}

/** The first thing that `find` finds in a line of `output`, which is read on so that it never fills up. */
export function firstLine(output: Readable, find: (line: string) => string | undefined): Promise<string> {
  const seen: string[] = [];
  return new Promise((resolve, reject) => {
    const lines = createInterface(output);
    lines.on("line", (line) => {
      seen.push(line);
      const found = find(line);
      if (found !== undefined) resolve(found);
    });
    lines.on("close", () => reject(new Error(`it ended after saying:\n${seen.join("\n")}`)));
  });
}
