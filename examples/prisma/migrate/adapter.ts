// Runs Prisma's schema engine in this process, as WebAssembly, over node-postgres, so that the test
// needs no engine that Prisma downloads. An application does not need this file.

import { randomUUID } from "node:crypto";
import { PrismaPg } from "@prisma/adapter-pg";
import { ColumnTypeEnum, type SqlQuery } from "@prisma/driver-adapter-utils";
import pg from "pg";

// OIDs of PostgreSQL's types. The adapter knows neither "char" nor name, of which the catalogue is
// full. The engine expects a character for the former and panics at a text, as soon as a table has
// a CHECK constraint.
const CHAR = 18;
const NAME = 19;
const TEXT = 25;

export class Adapter extends PrismaPg {
  readonly #settings: pg.PoolConfig;

  constructor(settings: pg.PoolConfig) {
    super(settings);
    this.#settings = settings;
  }

  override async connect() {
    const connection = await super.connect();
    const characters = new WeakMap<object, boolean[]>();
    const pool = connection.underlyingDriver() as { query(...given: unknown[]): Promise<pg.QueryResult> };
    const query = pool.query.bind(pool);
    pool.query = async (...given) => {
      const result = await query(...given);
      const fields = result.fields ?? [];
      if (result.rows) {
        characters.set(
          result.rows,
          fields.map(({ dataTypeID }) => dataTypeID === CHAR),
        );
      }
      for (const field of fields) {
        if (field.dataTypeID === CHAR || field.dataTypeID === NAME) field.dataTypeID = TEXT;
      }
      return result;
    };
    const queryRaw = connection.queryRaw.bind(connection);
    connection.queryRaw = async (given: SqlQuery) => {
      const result = await queryRaw(given);
      const isCharacter = characters.get(result.rows) ?? [];
      const columnTypes = result.columnTypes.map((type, column) =>
        isCharacter[column] ? ColumnTypeEnum.Character : type,
      );
      return { ...result, columnTypes };
    };
    return connection;
  }

  /** The adapter's own drops the database before it closes its connections to it, which fails. */
  override async connectToShadowDb() {
    const database = `prisma_shadow_${randomUUID()}`;
    const server = await this.connect();
    await server.executeScript(`CREATE DATABASE "${database}"`);
    const shadow = await new Adapter({ ...this.#settings, database }).connect();
    const close = shadow.dispose.bind(shadow);
    shadow.dispose = async () => {
      await close();
      await server.executeScript(`DROP DATABASE "${database}"`);
      await server.dispose();
    };
    return shadow;
  }
}
