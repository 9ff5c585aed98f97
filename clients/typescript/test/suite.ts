// The database of a test file, and what each of its tests begins with.

import { after, afterEach, before, beforeEach } from "node:test";
import { createHeistClient, type HeistClient, type HeistClientOptions } from "../src/index.ts";
import { Cleanup, Heist, TestDatabase } from "./support/index.ts";

export interface Suite {
  readonly cleanup: Cleanup;
  readonly database: TestDatabase;
  /** Starts a server on the suite's database. */
  serve(options?: { port?: number; env?: NodeJS.ProcessEnv }): Promise<Heist>;
  /** A client that is closed when the test ends. */
  client(addresses: string | string[], options?: Partial<HeistClientOptions>): HeistClient;
  /** A player with so many tokens. */
  robber(client: HeistClient, tokens?: number): Promise<number>;
}

export function suite(): Suite {
  const suiteCleanup = new Cleanup();
  let cleanup: Cleanup;
  let database: TestDatabase;
  before(async () => {
    database = await TestDatabase.create(suiteCleanup);
  });
  beforeEach(() => {
    cleanup = new Cleanup();
  });
  afterEach(() => cleanup.run());
  after(async () => {
    await database.checkBooks();
    await suiteCleanup.run();
  });
  return {
    get cleanup() {
      return cleanup;
    },
    get database() {
      return database;
    },
    serve: (options = {}) => Heist.start(cleanup, database, options),
    client: (addresses, options = {}) => {
      const client = createHeistClient({ addresses, ...options });
      cleanup.add(() => client.close());
      return client;
    },
    robber: async (client, tokens = 1) => {
      const [robber] = await database.players("Robber");
      await client.adjustBalance({ userId: robber!, delta: tokens, reason: "for the test" });
      return robber!;
    },
  };
}
