// Keeps a copy of the board. How it stays correct is told in main.rs, of which this is a translation:
// the client opens the stream again by itself.

import { setTimeout as sleep } from "node:timers/promises";
import { type HeistClient, HeistError } from "heist-client";
import { Board } from "./board.ts";

/** After this nothing is on its way any more that is older than a `resync`. */
const SETTLED_MS = 3_000;
/** How long the board may differ by points that are not from heists. */
const LOAD_AT_LEAST_EVERY_MS = 60_000;
/** After a load that failed. */
const LOAD_AGAIN_MS = 1_000;

/** Keeps a copy of the first places until the signal is aborted, and tells of each change. */
export async function keepBoard(
  client: HeistClient,
  places: number,
  changed: (board: Board) => void,
  signal: AbortSignal,
): Promise<void> {
  const board = new Board(places);
  let nextLoad = Date.now() + LOAD_AT_LEAST_EVERY_MS;

  const load = async () => {
    try {
      const { entries } = await client.getLeaderboard({ pageSize: places }, { signal });
      nextLoad = Date.now() + LOAD_AT_LEAST_EVERY_MS;
      if (board.load(entries)) changed(board);
    } catch (error) {
      if (!(error instanceof HeistError)) throw error;
      nextLoad = Date.now() + LOAD_AGAIN_MS;
    }
  };

  // One after the other: an event that arrives during a load is applied after it.
  const events = client.points({ signal });
  const ask = () => {
    const next = events.next();
    // An error that comes during a load is thrown when the load is over.
    next.catch(() => undefined);
    return next;
  };
  let next = ask();
  while (!signal.aborted) {
    const ended = new AbortController();
    const isDue = sleep(Math.max(0, nextLoad - Date.now()), "due" as const, { signal: ended.signal });
    const first = await Promise.race([next, isDue.catch(() => "due" as const)]).finally(() => ended.abort());
    if (first === "due") {
      await load();
      continue;
    }
    if (first.done) return;
    next = ask();
    const event = first.value;
    const effect = board.apply(event);
    if (effect === "changed") changed(board);
    if (effect === "reload") await load();
    if (event.resync) nextLoad = Math.min(nextLoad, Date.now() + SETTLED_MS);
  }
}
