import { type ChildProcess, execFile, spawn } from "node:child_process";
import { promisify } from "node:util";
import type { Cleanup } from "./cleanup.ts";
import { end, firstLine, setting } from "./processes.ts";

/** Runs a command of heist to its end, and answers what it printed. */
export async function runHeist(args: string[], env: NodeJS.ProcessEnv): Promise<string> {
  const { stdout } = await promisify(execFile)(setting("HEIST_BIN"), args, { env: { ...process.env, ...env } });
  return stdout;
}

/** The real server. */
export class Heist {
  readonly port: number;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, port: number) {
    this.#process = process;
    this.port = port;
  }

  static async start(
    cleanup: Cleanup,
    database: { url: string },
    { port = 0, env = {} }: { port?: number; env?: NodeJS.ProcessEnv } = {},
  ): Promise<Heist> {
    const child = spawn(setting("HEIST_BIN"), ["serve"], {
      env: {
        ...process.env,
        DATABASE_URL: database.url,
        HEIST_AUTH: "none",
        HEIST_LISTEN: `127.0.0.1:${port}`,
        HEIST_METRICS_LISTEN: "",
        HEIST_LOG_FORMAT: "json",
        RUST_LOG: "info",
        ...env,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    // Killed, because one that a test has frozen does not hear SIGTERM.
    cleanup.add(() => end(child, "SIGKILL"));
    const address = await firstLine(child.stderr!, (line) => {
      // A start that is refused says why in plain text.
      if (!line.startsWith("{")) return undefined;
      const { message, address } = JSON.parse(line) as { message: string; address?: string };
      return message === "serving" ? address : undefined;
    });
    return new Heist(child, Number(address.split(":").pop()));
  }

  /** As in `addresses` of the client. */
  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  stop(): Promise<void> {
    return end(this.#process, "SIGTERM");
  }

  kill(): Promise<void> {
    return end(this.#process, "SIGKILL");
  }

  /** From now on it neither answers nor closes a connection. */
  freeze(): void {
    this.#process.kill("SIGSTOP");
  }
}
