import { type Client, createClient } from "@connectrpc/connect";
import { Calls, type TokenSource } from "./calls.ts";
import { Connections, type TlsOptions } from "./connections.ts";
import { HeistService } from "./gen/heist/v1/heist_pb.ts";
import { type Notification, NotificationService } from "./gen/heist/v1/notification_pb.ts";
import { TokenService } from "./gen/heist/v1/token_pb.ts";
import { notifications, type NotificationsOptions, points, type PointsEvent } from "./streams.ts";

/** Where the service is, and how to call it. */
export interface HeistClientOptions {
  /**
   * The servers, as `host:port`; without a port 50051. Calls are spread over all of them, and over
   * all IP addresses of a name, and pass over a server that is away.
   */
  addresses: string | string[];
  /**
   * Asked for the bearer token with every attempt of a call, so that a token can be replaced.
   * Default: calls carry none.
   */
  token?: TokenSource;
  /**
   * Encrypts connections. As a function it is asked with every new connection, so that certificates
   * can be replaced. Default: plaintext.
   */
  tls?: TlsOptions | (() => TlsOptions);
  /** How long a call may take with all its attempts, in milliseconds, unless it says otherwise. Default: 3000. */
  timeoutMs?: number;
}

/**
 * The three services as one object: `heist.executeHeist({ attackerId, victimId })`. The second
 * parameter of each RPC takes `timeoutMs`, `signal` and `headers`. What an RPC throws is a
 * {@link HeistError}.
 *
 * A call is repeated until its time is up, at most five times with growing and random pauses, where
 * the contract says that this is safe and where it may help. One that needs a `requestId` gets one,
 * which its attempts share. Give your own where the intent outlives the call: a player's click that
 * may be sent again.
 */
export interface HeistClient
  extends Client<typeof HeistService>,
    Client<typeof TokenService>,
    Client<typeof NotificationService> {
  /**
   * A player's notifications as they are committed, oldest first. After any break it goes on where
   * it was: none is skipped, none comes twice. It ends with `signal` or when its loop is left. What
   * a new stream cannot cure is thrown: `USER_NOT_FOUND`, `PERMISSION_DENIED`, a wrong token.
   */
  notifications(userId: number, options?: NotificationsOptions): AsyncGenerator<Notification, void, undefined>;

  /** Every change of points by a heist, or `resync`. After any break it goes on with a `resync`. */
  points(options?: { signal?: AbortSignal }): AsyncGenerator<PointsEvent, void, undefined>;

  /** Ends all calls and streams. Idle connections do not keep a process from exiting. */
  close(): void;
}

/** A client of the service. It connects when it is first used. */
export function createHeistClient(options: HeistClientOptions): HeistClient {
  const { addresses, tls, timeoutMs = 3_000, token } = options;
  const connections = new Connections(
    typeof addresses === "string" ? [addresses] : addresses,
    typeof tls === "object" ? () => tls : tls,
  );
  const calls = new Calls(connections, timeoutMs, token);
  const closing = new AbortController();
  const signals = (signal: AbortSignal | undefined) => (signal ? [closing.signal, signal] : [closing.signal]);
  return {
    ...createClient(HeistService, calls),
    ...createClient(TokenService, calls),
    ...createClient(NotificationService, calls),
    notifications: (userId, { after, signal } = {}) => notifications(calls, userId, after, signals(signal)),
    points: ({ signal } = {}) => points(calls, signals(signal)),
    close: () => {
      closing.abort();
      connections.close();
    },
  };
}
