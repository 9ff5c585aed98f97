import { readFileSync } from "node:fs";
import pg from "pg";
import type { Cleanup } from "./cleanup.ts";
import { runHeist } from "./heist.ts";
import { repository, setting } from "./processes.ts";

let databases = 0;

/** A database with the application's tables, migrated by heist. */
export class TestDatabase {
  readonly url: string;
  readonly pool: pg.Pool;

  constructor(url: string, pool = new pg.Pool({ connectionString: url, max: 10 })) {
    this.url = url;
    this.pool = pool;
    // The server ends the connections when the database is dropped.
    this.pool.on("error", () => undefined);
  }

  static async create<Database extends TestDatabase>(
    this: new (url: string) => Database,
    cleanup: Cleanup,
  ): Promise<Database> {
    const serverUrl = setting("DATABASE_URL");
    databases += 1;
    const name = `client_test_${process.pid}_${databases}`;
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    await atServer(serverUrl, `CREATE DATABASE ${name}`);
    cleanup.add(() => atServer(serverUrl, `DROP DATABASE ${name} WITH (FORCE)`));

    const database = new this(url.href);
    cleanup.add(() => database.pool.end());
    await database.pool.query(readFileSync(new URL("src/demo/application.sql", repository), "utf8"));
    await runHeist(["migrate", "up"], { DATABASE_URL: url.href });
    return database;
  }

  async rows<Row>(text: string, values: unknown[] = []): Promise<Row[]> {
    return (await this.pool.query(text, values)).rows as Row[];
  }

  /** Makes players, and answers their ids. */
  async players(...names: string[]): Promise<number[]> {
    const rows = await this.rows<{ id: number }>(
      `INSERT INTO "User" ("name", "monthlyPoints") SELECT unnest($1::text[]), 1000 RETURNING "id"`,
      [names],
    );
    return rows.map(({ id }) => id);
  }

  /** Fails where the books do not add up. */
  async checkBooks(): Promise<void> {
    await runHeist(["check"], { DATABASE_URL: this.url });
  }
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
