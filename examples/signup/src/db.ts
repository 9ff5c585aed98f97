// PostgreSQL, as little of it as a signup needs.

import pg from "pg";

export function connect(url: string): pg.Pool {
  const pool = new pg.Pool({ connectionString: url, max: 10, connectionTimeoutMillis: 5_000 });
  // A server that restarts closes idle connections; the pool opens new ones when they are needed.
  pool.on("error", () => undefined);
  return pool;
}

/** Commits what `work` did, or does none of it where it throws. */
export async function inTransaction<Result>(
  pool: pg.Pool,
  work: (transaction: pg.PoolClient) => Promise<Result>,
): Promise<Result> {
  const connection = await pool.connect();
  let broken: Error | undefined;
  try {
    await connection.query("BEGIN");
    const result = await work(connection);
    await connection.query("COMMIT");
    return result;
  } catch (error) {
    await connection.query("ROLLBACK").catch((rollbackError: Error) => {
      broken = rollbackError;
    });
    throw error;
  } finally {
    // A connection that could not even roll back is not used again.
    connection.release(broken);
  }
}
