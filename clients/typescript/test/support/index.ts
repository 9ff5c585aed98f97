// What the tests of the client and of the examples run against: the real server, a database of its
// own, and a network that misbehaves between the two.

export { Cleanup, eventually, PATIENCE_MS } from "./cleanup.ts";
export { TestDatabase } from "./database.ts";
export { type AwardTokenHandler, ConnectError, startFakeHeist } from "./fake.ts";
export { Heist, runHeist } from "./heist.ts";
export { listen, Network, startSilentServer, unusedPort } from "./network.ts";
export { end, firstLine, repository, setting } from "./processes.ts";
