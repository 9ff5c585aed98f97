import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { lookup } from "node:dns/promises";
import net from "node:net";
import tls from "node:tls";
import { type Backoff, pauseAfter } from "./backoff.ts";

/** How connections are encrypted, and what they show and ask for. All files are in PEM. */
export interface TlsOptions {
  /** The roots that the service's certificate is checked against. Default: those of Node.js. */
  ca?: string;
  /** The client certificate, with those between it and its root. */
  cert?: string;
  /** The private key of `cert`. */
  key?: string;
  /** The name that the service's certificate has to be for. Default: the host of the address. */
  serverName?: string;
}

const DEFAULT_PORT = 50051;
/** A connection attempt that takes longer has failed. */
const CONNECT_TIMEOUT_MS = 1_000;
/** The names among the addresses are looked up again this often. */
const LOOKUP_INTERVAL_MS = 30_000;
/** A server that does not answer a ping of an idle connection or of a stream is gone. */
const PING = { pingIntervalMs: 10_000, pingTimeoutMs: 3_000 };
/** How long an address is avoided after a connection to it failed. */
const REST: Backoff = { firstMs: 100, longestMs: 5_000 };

interface Address {
  host: string;
  port: number;
}

/**
 * One HTTP/2 connection to each server. Calls take them in turn; a server that cannot be connected
 * to is passed over for a while.
 */
export class Connections {
  readonly #addresses: Address[];
  readonly #tls: (() => TlsOptions) | undefined;
  #connections = new Map<string, Connection>();
  #next = 0;
  #lookup: Promise<void> | undefined;
  #lookedUpAt = Number.NEGATIVE_INFINITY;
  #lookupError: unknown;
  #closed = false;

  constructor(addresses: string[], tls: (() => TlsOptions) | undefined) {
    if (addresses.length === 0) throw new TypeError("addresses: at least one is needed");
    this.#addresses = addresses.map(parseAddress);
    this.#tls = tls;
  }

  /** Whether another attempt of a call may reach another server. */
  get hasChoice(): boolean {
    return this.#connections.size > 1;
  }

  /** A connection that is open at this moment. */
  async take(): Promise<Transport> {
    await this.#refresh();
    if (this.#closed) throw new ClientClosed("the client is closed");
    const now = Date.now();
    const turn = this.#next++;
    const all = [...this.#connections.values()];
    const inTurn = all.map((_, index) => all[(turn + index) % all.length]!);
    // Those that rest are the last resort, the one that has rested longest first.
    const rested = inTurn.filter(({ restsUntil }) => restsUntil <= now);
    const resting = inTurn.filter(({ restsUntil }) => restsUntil > now);
    resting.sort((left, right) => left.restsUntil - right.restsUntil);
    let reason = this.#lookupError;
    for (const connection of [...rested, ...resting]) {
      if (await connection.open()) return connection.transport;
      reason = connection.error;
    }
    throw new NoConnection(reason);
  }

  /** Ends all connections, and the calls on them. */
  close(): void {
    this.#closed = true;
    for (const connection of this.#connections.values()) connection.close();
    this.#connections.clear();
  }

  /** Waits for the first lookup; later ones happen beside the calls. */
  async #refresh(): Promise<void> {
    if (Date.now() - this.#lookedUpAt >= LOOKUP_INTERVAL_MS) {
      this.#lookup ??= this.#lookUp().finally(() => (this.#lookup = undefined));
    }
    if (this.#connections.size === 0) await this.#lookup;
  }

  async #lookUp(): Promise<void> {
    const servers = new Map<string, Address & { ip: string }>();
    for (const address of this.#addresses) {
      try {
        for (const ip of await resolve(address.host)) servers.set(`${address.host} ${ip} ${address.port}`, { ...address, ip });
      } catch (error) {
        // The servers that were found before stay.
        this.#lookupError = error;
        for (const [key, { host, port, ip }] of this.#connections) {
          if (host === address.host && port === address.port) servers.set(key, { host, port, ip });
        }
      }
    }
    if (this.#closed) return;
    const known = this.#connections;
    this.#connections = new Map();
    for (const [key, server] of servers) {
      this.#connections.set(key, known.get(key) ?? new Connection(server, this.#tls));
    }
    // A server that is not named any more keeps its calls and streams, and gets no new ones.
    if (servers.size > 0) this.#lookedUpAt = Date.now();
  }
}

class Connection {
  readonly transport: Transport;
  readonly host: string;
  readonly port: number;
  readonly ip: string;
  restsUntil = 0;
  #failures = 0;
  readonly #sessions: Http2SessionManager;

  constructor({ host, port, ip }: Address & { ip: string }, tlsOptions: (() => TlsOptions) | undefined) {
    this.host = host;
    this.port = port;
    this.ip = ip;
    const baseUrl = `${tlsOptions ? "https" : "http"}://${net.isIPv6(host) ? `[${host}]` : host}:${port}`;
    this.#sessions = new Http2SessionManager(baseUrl, PING, {
      createConnection: () => {
        const socket = tlsOptions ? connectTls(host, ip, port, tlsOptions()) : net.connect({ host: ip, port });
        socket.setNoDelay(true);
        return limitConnecting(socket, tlsOptions ? "secureConnect" : "connect");
      },
    });
    this.transport = createGrpcTransport({ baseUrl, sessionManager: this.#sessions });
  }

  get error(): unknown {
    return this.#sessions.error();
  }

  /** Whether the connection is open now: connects where it is not. */
  async open(): Promise<boolean> {
    if ((await this.#sessions.connect()) === "error") {
      this.#failures += 1;
      this.restsUntil = Date.now() + pauseAfter(this.#failures, REST);
      return false;
    }
    this.#failures = 0;
    this.restsUntil = 0;
    return true;
  }

  close(): void {
    this.#sessions.abort();
  }
}

function connectTls(host: string, ip: string, port: number, options: TlsOptions): tls.TLSSocket {
  const { serverName = host, ...files } = options;
  return tls.connect({
    ...files,
    host: ip,
    port,
    ALPNProtocols: ["h2"],
    // TLS has no server name indication for IP addresses; the certificate is checked all the same.
    ...(net.isIP(serverName) ? {} : { servername: serverName }),
    checkServerIdentity: (_name, certificate) => tls.checkServerIdentity(serverName, certificate),
  });
}

function limitConnecting<Socket extends net.Socket>(socket: Socket, connected: "connect" | "secureConnect"): Socket {
  const timer = setTimeout(() => {
    const error = Object.assign(new Error(`no connection in ${CONNECT_TIMEOUT_MS} ms`), { code: "ETIMEDOUT" });
    socket.destroy(error);
  }, CONNECT_TIMEOUT_MS);
  socket.once(connected, () => clearTimeout(timer));
  socket.once("close", () => clearTimeout(timer));
  return socket;
}

function parseAddress(address: string): Address {
  const match = /^(?:\[([^\]]+)\]|([^:\s/]+))(?::(\d{1,5}))?$/.exec(address);
  const port = Number(match?.[3] ?? DEFAULT_PORT);
  if (!match || port < 1 || port > 65_535) {
    throw new TypeError(`addresses: ${JSON.stringify(address)} is not like "host:port"`);
  }
  return { host: (match[1] ?? match[2])!, port };
}

/** Every IP address of a host. */
async function resolve(host: string): Promise<string[]> {
  if (net.isIP(host)) return [host];
  const found = await lookup(host, { all: true });
  return found.map(({ address }) => address);
}

/** No server could be connected to, so the call was not sent. */
export class NoConnection extends Error {
  constructor(reason: unknown) {
    super(reason instanceof Error ? reason.message : String(reason), { cause: reason });
  }
}

/** There will be no connection any more. */
export class ClientClosed extends Error {}
