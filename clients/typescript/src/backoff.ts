import { setTimeout as sleep } from "node:timers/promises";

/** Pauses that double from `firstMs` up to `longestMs`, each random between half and all of that. */
export interface Backoff {
  firstMs: number;
  longestMs: number;
}

/** The pause after so many failures in a row, in milliseconds. */
export function pauseAfter(failures: number, { firstMs, longestMs }: Backoff): number {
  const fullMs = Math.min(firstMs * 2 ** Math.min(failures - 1, 30), longestMs);
  return fullMs * (0.5 + Math.random() / 2);
}

/** Ends after so many milliseconds, or at once where the signal is aborted. */
export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, signal && { signal }).catch(() => undefined);
}
