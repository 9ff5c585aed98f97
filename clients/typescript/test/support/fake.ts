import { createServer, type ServerHttp2Session } from "node:http2";
import { ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
// The package itself, so that examples share its descriptors.
import { TokenService } from "heist-client";
import type { Cleanup } from "./cleanup.ts";
import { listen } from "./network.ts";

/** What a handler throws. */
export { ConnectError };

export type AwardTokenHandler = ServiceImpl<typeof TokenService>["awardToken"];

/** A TokenService whose AwardToken does what the test says. */
export async function startFakeHeist(
  cleanup: Cleanup,
  awardToken: AwardTokenHandler,
): Promise<{ port: number; stop(): void }> {
  const server = createServer(
    connectNodeAdapter({ routes: (router) => void router.service(TokenService, { awardToken }), connect: false, grpcWeb: false }),
  );
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  const port = await listen(server);
  const stop = () => {
    server.close();
    for (const session of sessions) session.destroy();
  };
  cleanup.add(stop);
  return { port, stop };
}
