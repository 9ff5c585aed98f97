import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ClientClosed, NoConnection } from "./connections.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.ts";

/** A field of the request that the service did not accept. */
export interface FieldViolation {
  /** The path of the field in the request, such as `victim_ids[3]`. */
  field: string;
  /** What is wrong with it, in English. */
  description: string;
}

/** What a refusal says besides its reason, by reason. */
export interface RefusalFacts {
  // The request is wrong.
  INVALID_REQUEST: { fields: FieldViolation[] };
  INVALID_PAGE_TOKEN: { fields: FieldViolation[] };
  SELF_TARGET: object;
  SELF_REFERRAL: object;
  // What it names does not exist.
  ATTACKER_NOT_FOUND: object;
  TARGET_NOT_FOUND: object;
  USER_NOT_FOUND: { userId: number };
  HEIST_NOT_FOUND: { heistId: bigint };
  // The rules forbid it now.
  INSUFFICIENT_TOKENS: { tokensRequired: number } | { balance: number };
  /** The attacker may rob again in `retryAfterMs`, at `cooldownEndTime`. */
  COOLDOWN_ACTIVE: { retryAfterMs: number; cooldownEndTime: Date };
  INSUFFICIENT_POINTS: { victimPoints: number; pointsRequired: number };
  /** The victim can be robbed again in `retryAfterMs`, at `protectionEndTime`. */
  TARGET_PROTECTED: { retryAfterMs: number; protectionEndTime: Date };
  /** The attacker would have more points than a player can have. */
  POINTS_LIMIT_REACHED: { attackerPoints: number; pointsAtStake: number };
  REFERRAL_MISMATCH: object;
  FEATURE_DISABLED: object;
  REQUEST_ID_REUSED: object;
  REFERRAL_ALREADY_AWARDED: object;
  // The caller may not.
  UNAUTHENTICATED: object;
  /** `scope`: the scope that the service's token lacks; absent for a player's token. */
  PERMISSION_DENIED: { scope: string | undefined };
  RATE_LIMITED: { retryAfterMs: number; limitPerMinute: number };
  TOO_MANY_STREAMS: { limit: number };
  // The service cannot now.
  DATABASE_UNAVAILABLE: object;
  OVERLOADED: { retryAfterMs: number };
  CONTENTION: object;
  SLOW_READER: object;
  STREAM_TOO_OLD: object;
  SHUTTING_DOWN: object;
  /** A reason, or facts, that this version of the client does not know. */
  OTHER: { otherReason: string };
  // The call failed without a reason of the service.
  /** No connection to any address: the service has not received the call. */
  NO_CONNECTION: object;
  /** The client's `token` failed: nothing was sent. */
  NO_TOKEN: object;
  /** The connection broke, or a proxy answered: whether the call took effect is unknown. */
  CONNECTION_LOST: object;
  /** No answer in time: whether the call took effect is unknown. */
  DEADLINE_EXCEEDED: object;
  /** The caller's signal was aborted, or the client closed: whether the call took effect is unknown. */
  CANCELLED: object;
  /** A defect of the service. Its log has the call's `x-request-id`: {@link HeistError.callId}. */
  INTERNAL: object;
  /** The service has no such RPC, or not in this version. */
  UNIMPLEMENTED: object;
  /** A gRPC status without a reason. */
  UNKNOWN: object;
}

/** Why a call was refused or failed. */
export type Reason = keyof RefusalFacts;

/**
 * Why a call was refused or failed: a union that `reason` tells apart.
 *
 * `message` is for people, in English, and may change. `retryAfterMs` is how long to wait before
 * the call may succeed, where the service knows it.
 */
export type Refusal = {
  [R in Reason]: { reason: R; message: string; retryAfterMs?: number } & RefusalFacts[R];
}[Reason];

/** What every failed call throws. */
export class HeistError extends Error {
  override readonly name = "HeistError";
  /** Why the call was refused or failed. */
  readonly refusal: Refusal;
  /** The gRPC status code. */
  readonly code: Code;
  /** The name of the RPC, such as `ExecuteHeist`. */
  readonly rpc: string;
  /** The `x-request-id` of the last attempt, to find it in the log of the service. */
  readonly callId: string | undefined;

  /** @internal */
  constructor(rpc: string, refusal: Refusal, cause: unknown) {
    super(`${rpc}: ${refusal.reason}: ${refusal.message}`, { cause });
    this.rpc = rpc;
    this.refusal = refusal;
    this.code = cause instanceof ConnectError ? cause.code : Code.Unavailable;
    this.callId = (cause instanceof ConnectError && cause.metadata.get("x-request-id")) || undefined;
  }
}

/** @internal The source of tokens failed. */
export class NoToken extends Error {
  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** @internal What an attempt of a call threw, as callers see it. */
export function toHeistError(rpc: string, error: unknown, signal: AbortSignal | undefined): HeistError {
  if (error instanceof HeistError) return error;
  const cause = ConnectError.from(error);
  if (signal?.aborted || error instanceof ClientClosed) {
    return new HeistError(rpc, { reason: "CANCELLED", message: "the caller ended the call" }, cause);
  }
  if (error instanceof NoConnection) {
    return new HeistError(rpc, { reason: "NO_CONNECTION", message: error.message }, error);
  }
  if (error instanceof NoToken) return new HeistError(rpc, { reason: "NO_TOKEN", message: error.message }, error);
  return new HeistError(rpc, readRefusal(cause), cause);
}

/** The reason of the service, or what became of the call where it gave none. */
function readRefusal(error: ConnectError): Refusal {
  const message = error.rawMessage;
  const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "heist.v1");
  if (info === undefined) return { reason: reasonWithoutInfo(error), message };
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const retryAfterMs = delay && Number(delay.seconds) * 1000 + Math.ceil(delay.nanos / 1e6);
  const facts = readFacts(error, info.reason, info.metadata, retryAfterMs);
  // Which facts belong to which reason is what `readFacts` knows.
  return {
    ...(facts ? { reason: info.reason, ...facts } : { reason: "OTHER", otherReason: info.reason }),
    message,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  } as Refusal;
}

/** The facts of a refusal; undefined where the reason is unknown or one of its facts is missing. */
function readFacts(
  error: ConnectError,
  reason: string,
  metadata: Record<string, string>,
  retryAfterMs: number | undefined,
): object | undefined {
  const number = (name: string) => (/^\d+$/.test(metadata[name] ?? "") ? Number(metadata[name]) : undefined);
  const time = (name: string) => {
    const date = new Date(metadata[name] ?? "");
    return Number.isNaN(date.getTime()) ? undefined : date;
  };
  switch (reason) {
    case "INVALID_REQUEST":
    case "INVALID_PAGE_TOKEN": {
      const violations = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
      return { fields: violations.map(({ field, description }) => ({ field, description })) };
    }
    case "USER_NOT_FOUND":
      return whole({ userId: number("user_id") });
    case "HEIST_NOT_FOUND":
      return number("heist_id") === undefined ? undefined : { heistId: BigInt(metadata["heist_id"]!) };
    case "INSUFFICIENT_TOKENS":
      return whole({ tokensRequired: number("tokens_required") }) ?? whole({ balance: number("balance") });
    case "COOLDOWN_ACTIVE":
      return whole({ retryAfterMs, cooldownEndTime: time("cooldown_end_time") });
    case "INSUFFICIENT_POINTS":
      return whole({ victimPoints: number("victim_points"), pointsRequired: number("points_required") });
    case "POINTS_LIMIT_REACHED":
      return whole({ attackerPoints: number("attacker_points"), pointsAtStake: number("points_at_stake") });
    case "TARGET_PROTECTED":
      return whole({ retryAfterMs, protectionEndTime: time("protection_end_time") });
    case "PERMISSION_DENIED":
      return { scope: metadata["scope"] };
    case "RATE_LIMITED":
      return whole({ retryAfterMs, limitPerMinute: number("limit_per_minute") });
    case "TOO_MANY_STREAMS":
      return whole({ limit: number("limit") });
    case "OVERLOADED":
      return whole({ retryAfterMs });
    case "SELF_TARGET":
    case "SELF_REFERRAL":
    case "ATTACKER_NOT_FOUND":
    case "TARGET_NOT_FOUND":
    case "REFERRAL_MISMATCH":
    case "FEATURE_DISABLED":
    case "REQUEST_ID_REUSED":
    case "REFERRAL_ALREADY_AWARDED":
    case "UNAUTHENTICATED":
    case "DATABASE_UNAVAILABLE":
    case "CONTENTION":
    case "SLOW_READER":
    case "STREAM_TOO_OLD":
    case "SHUTTING_DOWN":
      return {};
    default:
      return undefined;
  }
}

function whole(facts: Record<string, unknown>): object | undefined {
  return Object.values(facts).includes(undefined) ? undefined : facts;
}

type ReasonWithoutFacts = {
  [R in Reason]: object extends RefusalFacts[R] ? R : never;
}[Reason];

function reasonWithoutInfo(error: ConnectError): ReasonWithoutFacts {
  if (!error.metadata.has("grpc-status")) {
    // Made by this process: the peer is gone, is no gRPC server, or is a proxy whose server is gone.
    return error.code === Code.DeadlineExceeded ? "DEADLINE_EXCEEDED" : "CONNECTION_LOST";
  }
  switch (error.code) {
    case Code.DeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case Code.Unavailable:
      return "CONNECTION_LOST";
    case Code.Internal:
      return "INTERNAL";
    case Code.Unauthenticated:
      return "UNAUTHENTICATED";
    case Code.Unimplemented:
      return "UNIMPLEMENTED";
    default:
      return "UNKNOWN";
  }
}

/** The time of a field of an answer; undefined where the field is unset. */
export function toDate(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp && timestampDate(timestamp);
}
