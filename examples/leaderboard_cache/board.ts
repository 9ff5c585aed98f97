// The copy of the leaderboard, without any network: what it holds, and what a change does to it.
// The same as board.rs.

import type { LeaderboardEntry, PointsEvent } from "heist-client";

/** A player on the board. */
export type Place = Pick<LeaderboardEntry, "userId" | "name" | "monthlyPoints">;

/**
 * What an event did to the copy. `reload`: the copy cannot know any more who is on the board, and has to
 * be loaded.
 */
export type Effect = "nothing" | "changed" | "reload";

/** The top of the leaderboard. */
export class Board {
  readonly #size: number;
  /** In the order of the leaderboard. */
  #places: Place[] = [];
  /** The last place as it was loaded, where there may be players behind it. */
  #edge: Place | undefined;
  /**
   * The newest heist that was heard of for each player. It is kept when the board is loaded again: a
   * change of another replica may arrive after a newer one, and after a load that has seen both.
   */
  readonly #newestHeists = new Map<number, bigint>();

  /** An empty copy of the first `size` places. */
  constructor(size: number) {
    this.#size = size;
  }

  get places(): readonly Readonly<Place>[] {
    return this.#places;
  }

  /** Takes over the first page of the leaderboard. Whether that changed anything. */
  load(entries: readonly Place[]): boolean {
    const places = entries
      .slice(0, this.#size)
      .map(({ userId, name, monthlyPoints }) => ({ userId, name, monthlyPoints }));
    const last = places.length === this.#size ? places.at(-1) : undefined;
    this.#edge = last && { ...last };
    const changed = JSON.stringify(places) !== JSON.stringify(this.#places);
    this.#places = places;
    return changed;
  }

  /** Applies an event of the stream. */
  apply(event: PointsEvent): Effect {
    if (event.resync) return "reload";
    const effects = event.changes.map(({ userId, monthlyPoints }): Effect => {
      if ((this.#newestHeists.get(userId) ?? 0n) >= event.heistId) return "nothing";
      this.#newestHeists.set(userId, event.heistId);
      return this.#setPoints(userId, monthlyPoints);
    });
    if (effects.includes("reload")) return "reload";
    return effects.includes("changed") ? "changed" : "nothing";
  }

  #setPoints(userId: number, monthlyPoints: number): Effect {
    const isBehindEdge = this.#edge !== undefined && inOrder({ userId, monthlyPoints }, this.#edge) > 0;
    const known = this.#places.find((place) => place.userId === userId);
    // A player who enters the board: the stream does not say their name.
    if (!known) return isBehindEdge ? "nothing" : "reload";
    // A player who was never seen may be in front of this one now.
    if (isBehindEdge) return "reload";
    if (known.monthlyPoints === monthlyPoints) return "nothing";
    known.monthlyPoints = monthlyPoints;
    this.#places.sort(inOrder);
    return "changed";
  }
}

type Standing = Pick<Place, "userId" | "monthlyPoints">;

/** Most points first, and among equals the higher id. */
function inOrder(left: Standing, right: Standing): number {
  return right.monthlyPoints - left.monthlyPoints || right.userId - left.userId;
}
