import type { DescMessage, DescMethodServerStreaming, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { type Backoff, pause, pauseAfter } from "./backoff.ts";
import { HeistService, type PointsChange } from "./gen/heist/v1/heist_pb.ts";
import { type Notification, NotificationService } from "./gen/heist/v1/notification_pb.ts";
import { HeistError, type Reason } from "./refusal.ts";

/** Between the end of a stream and its next beginning. */
const BETWEEN_STREAMS: Backoff = { firstMs: 100, longestMs: 10_000 };
/** A stream that lasted so long was well: what ends it counts as a first failure. */
const WELL_AFTER_MS = 10_000;
const PAGE_SIZE = 100;

/** What opening a stream again does not cure. */
const FINAL: ReadonlySet<Reason> = new Set<Reason>([
  "INVALID_REQUEST",
  "USER_NOT_FOUND",
  "PERMISSION_DENIED",
  "UNIMPLEMENTED",
]);

/** Where to begin, and when to end. */
export interface NotificationsOptions {
  /** The last id that is known; 0n: none. Default: only what is committed from now on. */
  after?: bigint;
  /** Ends the iteration. */
  signal?: AbortSignal;
}

/** What {@link HeistClient.points} tells. */
export type PointsEvent =
  /** Changes may have been missed: load what is kept of the leaderboard. Each stream begins with it. */
  | { resync: true }
  /** A heist was committed. Changes of one player may overtake each other: the highest heist id is the newest. */
  | { resync: false; heistId: bigint; changes: PointsChange[] };

/**
 * One stream after the other, until one of the signals is aborted. `items` gets a signal that ends
 * its stream, and says when the service has begun it.
 */
async function* reopening<Item>(
  signals: AbortSignal[],
  items: (signal: AbortSignal, begun: () => void) => AsyncIterable<Item>,
): AsyncGenerator<Item, void, undefined> {
  const ended = new AbortController();
  const end = () => ended.abort();
  for (const signal of signals) {
    if (signal.aborted) end();
    signal.addEventListener("abort", end);
  }
  try {
    for (let failures = 0; !ended.signal.aborted; ) {
      const openedAt = Date.now();
      let hasBegun = false;
      let retryAfterMs = 0;
      try {
        yield* items(ended.signal, () => (hasBegun = true));
      } catch (error) {
        if (ended.signal.aborted) return;
        if (!(error instanceof HeistError)) throw error;
        // A token that expires ends its stream; one that cannot begin a stream is wrong.
        const { reason } = error.refusal;
        if (FINAL.has(reason) || (reason === "UNAUTHENTICATED" && !hasBegun)) throw error;
        retryAfterMs = error.refusal.retryAfterMs ?? 0;
      }
      failures = hasBegun && Date.now() - openedAt >= WELL_AFTER_MS ? 1 : failures + 1;
      await pause(Math.max(pauseAfter(failures, BETWEEN_STREAMS), retryAfterMs), ended.signal);
    }
  } finally {
    for (const signal of signals) signal.removeEventListener("abort", end);
    // Ends the stream, also where the caller leaves its loop.
    end();
  }
}

/** See {@link HeistClient.notifications}. */
export function notifications(
  transport: Transport,
  userId: number,
  after: bigint | undefined,
  signals: AbortSignal[],
): AsyncGenerator<Notification, void, undefined> {
  const { listNotifications } = createClient(NotificationService, transport);
  let lastId = after;

  return reopening(signals, async function* (signal, begun) {
    // From now on: after the newest one there is.
    lastId ??= (await listNotifications({ userId, pageSize: 1 }, { signal })).notifications[0]?.id ?? 0n;
    const stream = await begin(transport, NotificationService.method.streamNotifications, { userId, afterId: lastId }, signal);
    begun();
    if (lastId === 0n) {
      // To the service 0 means "from now on". What came before the stream began is in the list.
      for (const notification of (await listAll(listNotifications, userId, signal)).reverse()) {
        lastId = notification.id;
        yield notification;
      }
    }
    for await (const { notification } of stream) {
      if (notification && notification.id > lastId) {
        lastId = notification.id;
        yield notification;
      }
    }
  });
}

/** See {@link HeistClient.points}. */
export function points(transport: Transport, signals: AbortSignal[]): AsyncGenerator<PointsEvent, void, undefined> {
  return reopening(signals, async function* (signal, begun) {
    const stream = await begin(transport, HeistService.method.watchPoints, {}, signal);
    begun();
    for await (const { resync, heistId, changes } of stream) {
      yield resync ? { resync } : { resync, heistId, changes };
    }
  });
}

/** Ends when the service has begun the stream. */
async function begin<Input extends DescMessage, Output extends DescMessage>(
  transport: Transport,
  method: DescMethodServerStreaming<Input, Output>,
  request: MessageInitShape<Input>,
  signal: AbortSignal,
): Promise<AsyncIterable<MessageShape<Output>>> {
  async function* requests() {
    yield request;
  }
  const { message } = await transport.stream(method, signal, undefined, undefined, requests());
  return message;
}

/** All notifications of a player, newest first. */
async function listAll(
  listNotifications: Client<typeof NotificationService>["listNotifications"],
  userId: number,
  signal: AbortSignal,
): Promise<Notification[]> {
  const all: Notification[] = [];
  let pageToken = "";
  do {
    const page = await listNotifications({ userId, pageSize: PAGE_SIZE, pageToken }, { signal });
    all.push(...page.notifications);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return all;
}
