import { randomUUID } from "node:crypto";
import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Level } from "@bufbuild/protobuf/wkt";

/** Whether the caller names its intent, so that a second call finds what the first one did. */
function takesRequestId(method: DescMethod): boolean {
  return method.input.fields.some((field) => field.name === "request_id");
}

/**
 * Whether a call of this RPC may be repeated after it may have been received: by the contract's
 * `idempotency_level`, and for RPCs with a `request_id`, which this client always sends.
 */
export function isRepeatable(method: DescMethod): boolean {
  return method.idempotency !== Level.IDEMPOTENCY_UNKNOWN || takesRequestId(method);
}

/** The request with a `request_id`: the caller's, or a new one that all attempts of the call share. */
export function withRequestId<Request extends object>(method: DescMethod, request: Request): Request {
  if (!takesRequestId(method)) return request;
  if ("requestId" in request && request.requestId) return request;
  return { ...request, requestId: randomUUID() };
}
