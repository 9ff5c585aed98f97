import { once } from "node:events";
import net, { type AddressInfo, type Server } from "node:net";
import type { Cleanup } from "./cleanup.ts";

export async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** A port where no process listens. */
export async function unusedPort(): Promise<number> {
  const server = net.createServer();
  const port = await listen(server);
  server.close();
  await once(server, "close");
  return port;
}

/** A service that accepts connections and never says a word. */
export async function startSilentServer(cleanup: Cleanup): Promise<{ port: number; connections(): number; stop(): void }> {
  const sockets = new Set<net.Socket>();
  let accepted = 0;
  const server = net.createServer((socket) => {
    accepted += 1;
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    socket.resume();
  });
  const port = await listen(server);
  const stop = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  cleanup.add(stop);
  return { port, connections: () => accepted, stop };
}

/** The network between a client and heist. */
export class Network {
  port = 0;
  /** While false, it loses every answer. */
  answers = true;
  /** How many connections were made through it. */
  connections = 0;
  readonly #sockets = new Set<net.Socket>();

  static async start(cleanup: Cleanup, heistPort: number): Promise<Network> {
    const network = new Network();
    const server = net.createServer((caller) => {
      network.connections += 1;
      const service = net.connect(heistPort, "127.0.0.1");
      caller.pipe(service);
      service.on("data", (bytes) => network.answers && caller.write(bytes));
      for (const [socket, other] of [[caller, service], [service, caller]] as const) {
        network.#sockets.add(socket);
        socket.on("error", () => undefined);
        socket.on("close", () => {
          network.#sockets.delete(socket);
          other.destroy();
        });
      }
    });
    network.port = await listen(server);
    cleanup.add(() => {
      server.close();
      network.cut();
    });
    return network;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Breaks every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
