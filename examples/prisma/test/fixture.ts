// The application's database with players who earned tokens and robbed each other, all of it
// by calls of the real heist server.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import pg from "pg";

const repository = new URL("../../../", import.meta.url);

export const ANN = 1;
export const BOB = 2;
export const CAT = 3;
export const DAN = 4;

export interface Fixture {
  url: string;
  sql: pg.Client;
  drop(): Promise<void>;
}

export async function createFixture(): Promise<Fixture> {
  const serverUrl = setting("DATABASE_URL");
  const name = `prisma_example_${process.pid}`;
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  await atServer(serverUrl, `CREATE DATABASE ${name}`);
  const sql = new pg.Client(url.href);
  const drop = async () => {
    await sql.end();
    await atServer(serverUrl, `DROP DATABASE ${name} WITH (FORCE)`);
  };
  try {
    await sql.connect();
    await sql.query(readFileSync(new URL("src/demo/application.sql", repository), "utf8"));
    await migrate(url.href);
    await sql.query(
      `INSERT INTO "User" ("name", "monthlyPoints", "referredByUserId") VALUES
         ('Ann', 100, NULL), ('Bob', 1000, $1), ('Cat', 400, $1), ('Dan', 0, $2)`,
      [ANN, BOB],
    );
    await play(url.href);
  } catch (error) {
    await drop();
    throw error;
  }
  return { url: url.href, sql, drop };
}

async function migrate(url: string): Promise<void> {
  const migration = spawn(setting("HEIST_BIN"), ["migrate", "up"], {
    env: { ...process.env, DATABASE_URL: url },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const [code] = await once(migration, "exit");
  if (code !== 0) throw new Error(`heist migrate up: exit code ${code}`);
}

/** Ann earns two tokens and Bob one; Ann robs Bob, and Bob robs Cat. */
export async function play(url: string): Promise<void> {
  const server = spawn(setting("HEIST_BIN"), ["serve"], {
    env: {
      ...process.env,
      DATABASE_URL: url,
      HEIST_AUTH: "none",
      HEIST_LISTEN: "127.0.0.1:0",
      HEIST_METRICS_LISTEN: "",
      HEIST_LOG_FORMAT: "json",
      RUST_LOG: "info",
    },
    stdio: ["ignore", "ignore", "pipe"],
  });
  try {
    const call = connect(await servingAddress(createInterface(server.stderr)));
    await call("TokenService", "AwardToken", { referrerId: ANN, referredId: BOB, referredName: "Bobby" });
    await call("TokenService", "AwardToken", { referrerId: ANN, referredId: CAT });
    await call("TokenService", "AwardToken", { referrerId: BOB, referredId: DAN });
    await call("HeistService", "ExecuteHeist", { attackerId: ANN, victimId: BOB });
    await call("HeistService", "ExecuteHeist", { attackerId: BOB, victimId: CAT });
  } finally {
    const exited = once(server, "exit");
    server.kill("SIGTERM");
    await exited;
  }
}

async function servingAddress(log: AsyncIterable<string>): Promise<string> {
  const seen: string[] = [];
  for await (const line of log) {
    seen.push(line);
    const { message, address } = JSON.parse(line) as { message: string; address: string };
    if (message === "serving") return address;
  }
  throw new Error(`heist serve ended after saying:\n${seen.join("\n")}`);
}

function connect(address: string): (service: string, method: string, request: object) => Promise<unknown> {
  const definition = protoLoader.loadSync(["heist/v1/heist.proto", "heist/v1/token.proto"], {
    includeDirs: [fileURLToPath(new URL("proto", repository))],
  });
  const { heist } = grpc.loadPackageDefinition(definition) as unknown as {
    heist: { v1: Record<string, grpc.ServiceClientConstructor> };
  };
  return async (service, method, request) => {
    const client = new heist.v1[service]!(address, grpc.credentials.createInsecure());
    try {
      return await new Promise((resolve, reject) => {
        client[method]!(request, (error: Error | null, response: unknown) => {
          if (error) reject(error);
          else resolve(response);
        });
      });
    } finally {
      client.close();
    }
  };
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
