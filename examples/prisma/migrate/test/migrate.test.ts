// The application's migrations and the service's on one database, with Prisma's real schema engine:
// neither drift nor a reset. The commands are those of ../README.md.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { after, it } from "node:test";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { play } from "../../test/fixture.ts";

const here = fileURLToPath(new URL("..", import.meta.url));
const example = fileURLToPath(new URL("../..", import.meta.url));
const readme = readFileSync(join(example, "README.md"), "utf8");
const server = setting("DATABASE_URL");
const work = join(here, "work", String(process.pid));

after(() => rmSync(work, { recursive: true }));

const schemaWithHeists = readFileSync(join(example, "schema/application.prisma"), "utf8");
/** The last lines of User. */
const heistLines = /\n  \/\/ The heist service's:.*?(?=^\}$)/ms.exec(schemaWithHeists)![0];
const ordinary = schemaWithHeists.replace(heistLines, "");

/** With optional names, cuid ids and @updatedAt. */
const clientFilled = ordinary
  .replace("name             String\n", "name             String?\n")
  .replace(
    /(model UserPointEvent \{\n  id +)Int( +@id @default\()autoincrement\(\)(\))/,
    "$1String$2cuid()$3\n  updatedAt DateTime @updatedAt",
  );
assert.match(clientFilled, /String\?\n[^]*cuid\(\)\)\n  updatedAt/);

for (const [kind, schema] of [
  ["the ordinary schema", ordinary],
  ["optional names, cuid ids and @updatedAt", clientFilled],
] as const) {
  it(`${kind} evolves before and after the service's migrations`, async () => {
    const application = await Application.create(kind.replaceAll(/\W/g, "_"), schema);
    try {
      await evolves(application);
    } finally {
      await application.drop();
    }
  });
}

async function evolves(application: Application) {
  assert.match(await application.runs("npx prisma migrate dev --skip-generate --name init"), /now in sync/);
  application.adds("country String? @db.VarChar(2)");
  assert.match(await application.runs("npx prisma migrate dev --skip-generate --name country"), /now in sync/);
  await application.sql.query(
    `INSERT INTO "User" ("name", "monthlyPoints", "referredByUserId") VALUES
       ('Ann', 100, NULL), ('Bob', 1000, 1), ('Cat', 400, 1), ('Dan', 0, 2)`,
  );
  await application.runs("heist migrate up");

  // With the configuration nothing is drift but the index of the leaderboard.
  application.excludesTheService();
  const drift = await application.fails("npx prisma migrate dev --skip-generate --name early");
  assert.match(drift, /Drift detected[^]*Changed the `User` table\s+\[\+\] Added index on columns \(monthlyPoints, id\)/);
  assert.equal(drift.match(/\[[+*-]\]/g)?.length, 2, drift);

  application.copiesTheModels();
  for (const command of commands("Beside `prisma migrate`")) await application.runs(command);
  assert.match(await application.runs("npx prisma migrate dev --skip-generate --name none"), /Already in sync/);
  await application.checked();

  // Both go on: the application adds a column, and the service works.
  application.adds("nickname String?");
  assert.match(await application.runs("npx prisma migrate dev --skip-generate --name nickname"), /now in sync/);
  assert.equal(application.lastMigration(), 'ALTER TABLE "User" ADD COLUMN     "nickname" TEXT;');
  await play(application.url);
  await application.checked();
  assert.deepEqual(await application.counts(), { players: 4, heists: 2 });

  // A new environment, in which the application's migrations all run first.
  const other = await application.elsewhere();
  try {
    await other.runs("npx prisma migrate deploy");
    await other.runs("heist migrate up");
    assert.match(await other.runs("npx prisma migrate dev --skip-generate --name none"), /Already in sync/);
    await other.checked();

    // As the README warns.
    await other.runs("npx prisma migrate reset --force");
    assert.deepEqual(await other.counts(), { players: 0, heists: null });
    await other.runs("heist migrate up");
    assert.deepEqual(await other.counts(), { players: 0, heists: 0 });
    assert.match(await other.runs("npx prisma migrate dev --skip-generate --name none"), /Already in sync/);
  } finally {
    await other.drop();
  }
}

class Application {
  private constructor(
    private readonly folder: string,
    readonly url: string,
    readonly sql: pg.Client,
  ) {}

  static async create(name: string, schema: string): Promise<Application> {
    const folder = join(work, name);
    mkdirSync(join(folder, "prisma"), { recursive: true });
    writeFileSync(join(folder, "package.json"), '{ "private": true, "type": "module" }');
    // Prisma 6 wants a URL there, and Prisma 7 none. The adapter's is used.
    const datasource = 'provider = "postgresql"\n  url      = env("DATABASE_URL")';
    writeFileSync(
      join(folder, "prisma", "application.prisma"),
      schema.replace('provider = "postgresql"', datasource),
    );
    const application = await Application.on(folder);
    application.configures("");
    return application;
  }

  private static async on(folder: string): Promise<Application> {
    const name = `prisma_migrate_${process.pid}_${Date.now()}`;
    await atServer(`CREATE DATABASE ${name}`);
    const url = new URL(server);
    url.pathname = `/${name}`;
    const sql = new pg.Client(url.href);
    await sql.connect();
    return new Application(folder, url.href, sql);
  }

  /** Another database for the same application. */
  elsewhere(): Promise<Application> {
    return Application.on(this.folder);
  }

  async drop() {
    await this.sql.end();
    await atServer(`DROP DATABASE "${new URL(this.url).pathname.slice(1)}" WITH (FORCE)`);
  }

  adds(column: string) {
    this.changes((schema) => schema.replace(/^model User \{$/m, `model User {\n  ${column}`));
  }

  excludesTheService() {
    const config = readFileSync(join(example, "prisma.config.ts"), "utf8");
    this.configures(/^  tables: .*^  enums: [^\n]*$/ms.exec(config)![0]);
  }

  /** And the last lines of User. */
  copiesTheModels() {
    this.changes((schema) => schema.replace(/^(model User \{.*?)^\}$/ms, `$1${heistLines}}`));
    writeFileSync(
      join(this.folder, "prisma", "heist.prisma"),
      readFileSync(join(example, "schema/heist.prisma")),
    );
  }

  private changes(change: (schema: string) => string) {
    const file = join(this.folder, "prisma", "application.prisma");
    const before = readFileSync(file, "utf8");
    const after = change(before);
    assert.notEqual(after, before);
    writeFileSync(file, after);
  }

  private configures(external: string) {
    writeFileSync(
      join(this.folder, "prisma.config.ts"),
      `import { Adapter } from "../../../adapter.ts";
const url = new URL(process.env.DATABASE_URL!);
export default {
  schema: "prisma",
  migrations: { path: "prisma/migrations" },
  engine: "js",
  experimental: { adapter: true, externalTables: true },
  // A connection string would hide the name of the database from Prisma.
  adapter: async () =>
    new Adapter({
      host: url.searchParams.get("host") ?? url.hostname,
      port: Number(url.port || 5432),
      user: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password) || undefined,
      database: url.pathname.slice(1),
    }),
${external}
};
`,
    );
  }

  /** What the command prints. */
  async runs(command: string): Promise<string> {
    const { code, output } = await this.shell(command);
    assert.equal(code, 0, `${command}\n${output}`);
    return output;
  }

  async fails(command: string): Promise<string> {
    const { code, output } = await this.shell(command);
    assert.notEqual(code, 0, `${command}\n${output}`);
    return output;
  }

  private shell(command: string): Promise<{ code: number | null; output: string }> {
    const programs = [dirname(setting("HEIST_BIN")), join(here, "node_modules/.bin"), process.env.PATH];
    const child = spawn("sh", ["-euc", command], {
      cwd: this.folder,
      env: {
        ...process.env,
        PATH: programs.join(delimiter),
        DATABASE_URL: this.url,
        // No engine is needed, so none is downloaded.
        PRISMA_QUERY_ENGINE_LIBRARY: "/bin/true",
        PRISMA_SCHEMA_ENGINE_BINARY: "/bin/true",
        CHECKPOINT_DISABLE: "1",
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => (output += text));
    }
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code) => resolve({ code, output }));
    });
  }

  /** Its schema fits, and the books are right. */
  async checked() {
    await this.runs("heist check --schema");
    await this.runs("heist check");
  }

  lastMigration(): string {
    const folder = join(this.folder, "prisma/migrations");
    const names = readdirSync(folder).filter((name) => name !== "migration_lock.toml");
    const sql = readFileSync(join(folder, names.sort().at(-1)!, "migration.sql"), "utf8");
    return sql.replaceAll(/^--.*\n/gm, "").trim();
  }

  /** Heists are null where the service's tables are gone. */
  async counts(): Promise<{ players: number; heists: number | null }> {
    const count = async (table: string) => {
      const { rows } = await this.sql.query<{ count: number }>(`SELECT count(*)::integer FROM "${table}"`);
      return rows[0]!.count;
    };
    const { rows } = await this.sql.query<{ exists: boolean }>(`SELECT to_regclass('"Heist"') IS NOT NULL AS exists`);
    return { players: await count("User"), heists: rows[0]!.exists ? await count("Heist") : null };
  }
}

/** The commands in this section of the README. */
function commands(title: string): string[] {
  const section = readme.split(/^## /m).find((text) => text.startsWith(`${title}\n`));
  assert.ok(section, title);
  const blocks = [...section.matchAll(/^ *```sh\n(.*?)^ *```$/gms)].map(([, block]) => block!);
  assert.ok(blocks.length > 0, title);
  return blocks;
}

async function atServer(statement: string) {
  const client = new pg.Client(server);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function setting(name: string): string {
  return process.env[name] ?? assert.fail(`${name} is not set`);
}
