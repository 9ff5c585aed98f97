// Who is signed in. Signing in is choosing a player here: a real application asks for a password.

import { randomBytes } from "node:crypto";

const LIFETIME_MS = 12 * 3_600_000;
const MOST = 1_000;

interface Session {
  playerId: number;
  endsAt: number;
}

/** Sessions in memory: they end with the process. */
export class Sessions {
  readonly #sessions = new Map<string, Session>();

  /** Begins a session, and answers its id. Beyond 1000 sessions the oldest one ends. */
  begin(playerId: number): string {
    const id = randomBytes(24).toString("base64url");
    this.#sessions.set(id, { playerId, endsAt: Date.now() + LIFETIME_MS });
    if (this.#sessions.size > MOST) this.end(this.#sessions.keys().next().value!);
    return id;
  }

  /** The player of a session; undefined where it has ended. */
  playerOf(id: string): number | undefined {
    const session = this.#sessions.get(id);
    return session && session.endsAt > Date.now() ? session.playerId : undefined;
  }

  end(id: string): void {
    this.#sessions.delete(id);
  }
}
