import type { DescMessage, DescMethod, DescMethodStreaming, DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf";
import type { ContextValues, StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";
import { type Backoff, pause, pauseAfter } from "./backoff.ts";
import { type Connections, NoConnection } from "./connections.ts";
import { isRepeatable, withRequestId } from "./methods.ts";
import { type HeistError, NoToken, type Reason, toHeistError } from "./refusal.ts";

/** The most attempts of one call. */
const ATTEMPTS = 6;
const BETWEEN_ATTEMPTS: Backoff = { firstMs: 50, longestMs: 1_000 };
/** How long a stream may take to begin; the server allows the same. */
const STREAM_START_MS = 10_000;

/** What repeating a call at once may cure. Nothing has happened, or repeating finds what did. */
const WORTH_REPEATING: ReadonlySet<Reason> = new Set<Reason>([
  "NO_CONNECTION",
  "CONNECTION_LOST",
  "DATABASE_UNAVAILABLE",
  "OVERLOADED",
  "CONTENTION",
  "DEADLINE_EXCEEDED",
]);

/** The token to call the service with, asked for with every attempt so that it can be replaced. */
export type TokenSource = () => string | Promise<string>;

/**
 * Calls with a deadline, a token and, where the contract says that it is safe, repetitions. What
 * they throw is a {@link HeistError}.
 */
export class Calls implements Transport {
  readonly #connections: Connections;
  readonly #timeoutMs: number;
  readonly #token: TokenSource | undefined;

  constructor(connections: Connections, timeoutMs: number, token: TokenSource | undefined) {
    this.#connections = connections;
    this.#timeoutMs = timeoutMs;
    this.#token = token;
  }

  async unary<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<Input>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<Input, Output>> {
    const deadline = Date.now() + (timeoutMs ?? this.#timeoutMs);
    const request = withRequestId(method, input);
    for (let attempt = 1; ; attempt += 1) {
      try {
        const { transport, headers } = await this.#prepare(header, Math.max(1, deadline - Date.now()), signal);
        // Half of the time, so that a server that hangs leaves some for another one.
        const leavesTime = attempt < ATTEMPTS && isRepeatable(method) && this.#connections.hasChoice;
        const remainingMs = Math.max(1, deadline - Date.now());
        const attemptMs = leavesTime ? Math.ceil(remainingMs / 2) : remainingMs;
        return await transport.unary(method, signal, attemptMs, headers, request, contextValues);
      } catch (error) {
        const failure = toHeistError(method.name, error, signal);
        const pauseMs = pauseBefore(attempt + 1, failure);
        if (attempt === ATTEMPTS || !mayRepeat(method, failure) || Date.now() + pauseMs >= deadline) throw failure;
        await pause(pauseMs, signal);
      }
    }
  }

  /** Begins a stream, once. It has no deadline. */
  async stream<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodStreaming<Input, Output>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<Input>>,
    contextValues?: ContextValues,
  ): Promise<StreamResponse<Input, Output>> {
    const start = new AbortController();
    const tooLate = setTimeout(() => start.abort(), STREAM_START_MS);
    try {
      const { transport, headers } = await this.#prepare(header, STREAM_START_MS, signal);
      const either = signal ? AbortSignal.any([signal, start.signal]) : start.signal;
      const response = await transport.stream(method, either, timeoutMs ?? 0, headers, input, contextValues);
      return { ...response, message: withHeistErrors(method, response.message, signal) };
    } catch (error) {
      throw toHeistError(method.name, error, signal);
    } finally {
      clearTimeout(tooLate);
    }
  }

  /** A connection and the headers for one attempt, in so much time. */
  async #prepare(
    header: HeadersInit | undefined,
    limitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<{ transport: Transport; headers: Headers }> {
    let abandon = () => {};
    const abandoned = new Promise<never>((_, reject) => {
      abandon = () => reject(new NoConnection(`no connection in ${limitMs} ms`));
    });
    const timer = setTimeout(abandon, limitMs);
    signal?.addEventListener("abort", abandon);
    if (signal?.aborted) abandon();
    try {
      return await Promise.race([abandoned, this.#connect(header)]);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abandon);
    }
  }

  async #connect(header: HeadersInit | undefined): Promise<{ transport: Transport; headers: Headers }> {
    const headers = new Headers(header);
    if (this.#token) headers.set("authorization", `Bearer ${await askForToken(this.#token)}`);
    return { transport: await this.#connections.take(), headers };
  }
}

async function askForToken(token: TokenSource): Promise<string> {
  try {
    return await token();
  } catch (error) {
    throw new NoToken(error);
  }
}

async function* withHeistErrors<Message>(
  method: DescMethod,
  messages: AsyncIterable<Message>,
  signal: AbortSignal | undefined,
): AsyncIterable<Message> {
  try {
    yield* messages;
  } catch (error) {
    throw toHeistError(method.name, error, signal);
  }
}

function mayRepeat(method: DescMethod, { refusal: { reason } }: HeistError): boolean {
  if (reason === "NO_CONNECTION") return true;
  return isRepeatable(method) && WORTH_REPEATING.has(reason);
}

/** Random and growing, and never shorter than the service asks for. */
function pauseBefore(attempt: number, { refusal: { retryAfterMs } }: HeistError): number {
  return Math.max(pauseAfter(attempt - 1, BETWEEN_ATTEMPTS), retryAfterMs ?? 0);
}
