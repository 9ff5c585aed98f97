// What the tests run against: the real heist server, a database of its own, auth services in
// this process and in others, and services that misbehave in place of heist.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo, Server as NetServer } from "node:net";
import net from "node:net";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import pg from "pg";
import { type AwardEvent, Awards, type AwardsOptions } from "../src/awards.ts";
import { connect } from "../src/db.ts";
import { createSignupServer } from "../src/server.ts";

const repository = new URL("../../../", import.meta.url);
const packageFolder = fileURLToPath(new URL("../", import.meta.url));
const protoFolder = fileURLToPath(new URL("proto", repository));

/** How long the tests wait for what has to happen. They go on as soon as it has. */
const PATIENCE_MS = 30_000;

/** Answers as soon as `probe` answers something true, asking again and again. */
export async function eventually<Result>(what: string, probe: () => Promise<Result>): Promise<NonNullable<Result>> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const result = await probe();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`in ${PATIENCE_MS} ms it did not happen that ${what}`);
    await sleep(20);
  }
}

/** Undoes, last first, what a test or a suite has started. */
export class Cleanup {
  readonly #steps: (() => unknown)[] = [];

  add(step: () => unknown): void {
    this.#steps.push(step);
  }

  async run(): Promise<void> {
    for (const step of this.#steps.splice(0).reverse()) await step();
  }
}

export interface Player {
  id: number;
  referralCode: string;
}

/** The application's database, migrated by heist, with the outbox. */
export class TestDatabase {
  readonly url: string;
  readonly pool: pg.Pool;

  private constructor(url: string) {
    this.url = url;
    this.pool = connect(url);
  }

  static async create(cleanup: Cleanup): Promise<TestDatabase> {
    const serverUrl = setting("DATABASE_URL");
    const name = `signup_example_${process.pid}`;
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    await atServer(serverUrl, `CREATE DATABASE ${name}`);
    cleanup.add(() => atServer(serverUrl, `DROP DATABASE ${name} WITH (FORCE)`));

    const database = new TestDatabase(url.href);
    cleanup.add(() => database.pool.end());
    await database.pool.query(readFileSync(new URL("src/demo/application.sql", repository), "utf8"));
    const migration = spawn(setting("HEIST_BIN"), ["migrate", "up"], {
      env: { ...process.env, DATABASE_URL: url.href },
      stdio: ["ignore", "ignore", "inherit"],
    });
    const [code] = await once(migration, "exit");
    if (code !== 0) throw new Error(`heist migrate up: exit code ${code}`);
    await database.pool.query(readFileSync(new URL("../outbox.sql", import.meta.url), "utf8"));
    return database;
  }

  async rows<Row>(text: string, values: unknown[] = []): Promise<Row[]> {
    return (await this.pool.query(text, values)).rows as Row[];
  }

  /** What heist's books say of a player: tokens, awards, and notifications of them. */
  async tokensOf(player: Player): Promise<{ balance: number; awards: number; notifications: number }> {
    const [books] = await this.rows<{ balance: number; awards: number; notifications: number }>(
      `SELECT
         COALESCE((SELECT "balance" FROM "HeistToken" WHERE "userId" = $1), 0) AS balance,
         (SELECT count(*)::int FROM "HeistTokenAward" WHERE "referrerId" = $1) AS awards,
         (SELECT count(*)::int FROM "HeistNotification"
          WHERE "userId" = $1 AND "type" = 'TOKEN_EARNED') AS notifications`,
      [player.id],
    );
    return books!;
  }

  async outboxRow(referred: { id: number }): Promise<OutboxRow> {
    const [row] = await this.rows<OutboxRow>(
      `SELECT "attempts", "lastError", "settledAt", "refusal" FROM "HeistAwardOutbox" WHERE "referredId" = $1`,
      [referred.id],
    );
    return row!;
  }

  /** The next test owes nothing for what this one left open. */
  async emptyOutbox(): Promise<void> {
    await this.rows(`DELETE FROM "HeistAwardOutbox"`);
  }

  /** Waits until the outbox owes nothing for this player. */
  settled(referred: { id: number }): Promise<OutboxRow> {
    return eventually(`the award for player ${referred.id} is settled`, async () => {
      const row = await this.outboxRow(referred);
      return row.settledAt && row;
    });
  }

  /** Waits until a delivery has failed, and answers why. */
  postponed(referred: { id: number }): Promise<string> {
    return eventually(`a delivery for player ${referred.id} has failed`, async () => {
      return (await this.outboxRow(referred)).lastError;
    });
  }

  /** As if the time to deliver everything in the outbox again had come. */
  async makeDue(): Promise<void> {
    await this.rows(`UPDATE "HeistAwardOutbox" SET "nextAttemptAt" = now()`);
  }
}

export interface OutboxRow {
  attempts: number;
  lastError: string | null;
  settledAt: Date | null;
  refusal: string | null;
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
    database: TestDatabase,
    { port = 0, enabled = true }: { port?: number; enabled?: boolean } = {},
  ): Promise<Heist> {
    const child = spawn(setting("HEIST_BIN"), ["serve"], {
      env: {
        ...process.env,
        DATABASE_URL: database.url,
        HEIST_AUTH: "none",
        HEIST_ENABLED: String(enabled),
        HEIST_LISTEN: `127.0.0.1:${port}`,
        HEIST_METRICS_LISTEN: "",
        HEIST_LOG_FORMAT: "json",
        RUST_LOG: "info",
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    cleanup.add(() => end(child, "SIGTERM"));
    const address = await firstLine(child.stderr!, (line) => {
      const { message, address } = JSON.parse(line) as { message: string; address?: string };
      return message === "serving" ? address : undefined;
    });
    return new Heist(child, Number(address.split(":").pop()));
  }

  stop(): Promise<void> {
    return end(this.#process, "SIGTERM");
  }

  kill(): Promise<void> {
    return end(this.#process, "SIGKILL");
  }
}

/** An auth service in this process, which forgets nothing of what its awards told it. */
export class AuthService {
  readonly events: AwardEvent[] = [];
  readonly awards: Awards;
  url = "";

  private constructor(database: TestDatabase, heistPort: number, options: Partial<AwardsOptions>) {
    this.awards = new Awards({
      database: database.pool,
      address: `127.0.0.1:${heistPort}`,
      credentials: grpc.credentials.createInsecure(),
      protoFolder,
      pollMs: 50,
      firstDelayMs: 100,
      maxDelayMs: 500,
      log: (event) => this.events.push(event),
      ...options,
    });
  }

  static async start(
    cleanup: Cleanup,
    database: TestDatabase,
    heistPort: number,
    options: Partial<AwardsOptions> = {},
  ): Promise<AuthService> {
    const service = new AuthService(database, heistPort, options);
    const server = createSignupServer(database.pool, service.awards);
    service.awards.start();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    service.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    cleanup.add(async () => {
      server.close();
      await service.awards.stop();
    });
    return service;
  }

  signUp(referralCode?: string): Promise<Player> {
    return signUpAt(this.url, referralCode);
  }
}

/** An auth service that is a process of its own, with the settings of production. */
export async function spawnAuthService(
  cleanup: Cleanup,
  database: TestDatabase,
  heistPort: number,
): Promise<{
  signUp(referralCode?: string): Promise<Player>;
  stop(): Promise<number | null>;
  kill(): Promise<void>;
}> {
  const child = spawn(process.execPath, ["--import", "tsx", "src/main.ts"], {
    cwd: packageFolder,
    env: {
      ...process.env,
      DATABASE_URL: database.url,
      PORT: "0",
      HEIST_ADDRESS: `127.0.0.1:${heistPort}`,
    },
    stdio: ["ignore", "pipe", "ignore"],
  });
  cleanup.add(() => end(child, "SIGKILL"));
  const url = await firstLine(child.stdout!, (line) => line.split("listening on ")[1]);
  return {
    signUp: (referralCode) => signUpAt(url, referralCode),
    stop: async () => {
      await end(child, "SIGTERM");
      return child.exitCode;
    },
    kill: () => end(child, "SIGKILL"),
  };
}

let signups = 0;

async function signUpAt(url: string, referralCode: string | undefined): Promise<Player> {
  signups += 1;
  const response = await fetch(`${url}/signup`, {
    method: "POST",
    body: JSON.stringify({ name: `Player ${signups}`, email: `player-${signups}@example.org`, referralCode }),
  });
  if (response.status !== 201) throw new Error(`signup: ${response.status} ${await response.text()}`);
  return (await response.json()) as Player;
}

/** A service that accepts connections and never says a word. */
export async function startSilentServer(cleanup: Cleanup): Promise<{ port: number; connections(): number; stop(): void }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.resume();
  });
  const port = await listen(server);
  const stop = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  cleanup.add(stop);
  return { port, connections: () => sockets.size, stop };
}

type AwardTokenHandler = grpc.handleUnaryCall<{ referrerId: number; referredId: number }, object>;

/** A TokenService whose AwardToken does what the test says. */
export async function startFakeHeist(
  cleanup: Cleanup,
  awardToken: AwardTokenHandler,
): Promise<{ port: number; stop(): void }> {
  const definition = protoLoader.loadSync("heist/v1/token.proto", { includeDirs: [protoFolder] });
  const { heist } = grpc.loadPackageDefinition(definition) as unknown as {
    heist: { v1: { TokenService: grpc.ServiceClientConstructor } };
  };
  const server = new grpc.Server();
  server.addService(heist.v1.TokenService.service, { awardToken });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  const stop = () => server.forceShutdown();
  cleanup.add(stop);
  return { port, stop };
}

/** The network between an auth service and heist. While `answers` is false it loses every answer. */
export class Network {
  port = 0;
  answers = true;

  static async start(cleanup: Cleanup, heistPort: number): Promise<Network> {
    const network = new Network();
    const sockets = new Set<net.Socket>();
    const server = net.createServer((caller) => {
      const service = net.connect(heistPort, "127.0.0.1");
      caller.pipe(service);
      service.on("data", (bytes) => network.answers && caller.write(bytes));
      for (const [socket, other] of [[caller, service], [service, caller]] as const) {
        sockets.add(socket);
        socket.on("error", () => undefined);
        socket.on("close", () => {
          sockets.delete(socket);
          other.destroy();
        });
      }
    });
    network.port = await listen(server);
    cleanup.add(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return network;
  }
}

/** A port where nobody listens. */
export async function unusedPort(): Promise<number> {
  const server = net.createServer();
  const port = await listen(server);
  server.close();
  await once(server, "close");
  return port;
}

async function listen(server: NetServer): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  await exited;
}

/** The first thing that `find` finds in a line of `output`, which is read on so that it never fills up. */
function firstLine(output: Readable, find: (line: string) => string | undefined): Promise<string> {
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

async function atServer(url: string, statement: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function setting(name: "DATABASE_URL" | "HEIST_BIN"): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; scripts/test-examples sets it`);
  return value;
}
