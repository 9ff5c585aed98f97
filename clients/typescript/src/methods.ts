import { randomUUID } from "node:crypto";
import type { DescMethod } from "@bufbuild/protobuf";

/**
 * Why repeating a call is safe, by the contract. A test asks for a line here for every RPC; one
 * that is not listed is never repeated once it may have been received.
 *
 * - `reads`: it changes nothing.
 * - `idempotent`: the second call finds what the first one did.
 * - `request id`: the same, for calls with the same `request_id`.
 */
export const REPETITION: Readonly<Record<string, "reads" | "idempotent" | "request id">> = {
  ExecuteHeist: "request id",
  CheckEligibility: "reads",
  BatchCheckEligibility: "reads",
  GetHeist: "reads",
  ListHeists: "reads",
  GetHeistStats: "reads",
  GetRules: "reads",
  GetLeaderboard: "reads",
  WatchPoints: "reads",
  AwardToken: "idempotent",
  GetBalance: "reads",
  BatchGetBalances: "reads",
  ListTokenEvents: "reads",
  AdjustBalance: "request id",
  ListNotifications: "reads",
  GetUnreadCount: "reads",
  MarkNotificationsRead: "idempotent",
  GetPreferences: "reads",
  UpdatePreferences: "idempotent",
  StreamNotifications: "reads",
};

/** Whether a call of this RPC may be repeated after it may have been received. */
export function isRepeatable(method: DescMethod): boolean {
  return Object.hasOwn(REPETITION, method.name);
}

/** The request with a `request_id`: the caller's, or a new one that all attempts of the call share. */
export function withRequestId<Request extends object>(method: DescMethod, request: Request): Request {
  if (REPETITION[method.name] !== "request id") return request;
  if ("requestId" in request && request.requestId) return request;
  return { ...request, requestId: randomUUID() };
}
