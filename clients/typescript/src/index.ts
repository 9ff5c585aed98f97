/**
 * A client of the heist service.
 *
 * @packageDocumentation
 */

export { Code } from "@connectrpc/connect";
export { createHeistClient, type HeistClient, type HeistClientOptions } from "./client.ts";
export type { TokenSource } from "./calls.ts";
export type { TlsOptions } from "./connections.ts";
export {
  type FieldViolation,
  HeistError,
  type Reason,
  type Refusal,
  type RefusalFacts,
  toDate,
} from "./refusal.ts";
export type { NotificationsOptions, PointsEvent } from "./streams.ts";
export * from "./gen/heist/v1/heist_pb.ts";
export * from "./gen/heist/v1/notification_pb.ts";
export * from "./gen/heist/v1/token_pb.ts";
