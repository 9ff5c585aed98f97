// What the page says: every refusal as a sentence for the player.

import { type Eligibility, RefusalReason, type Refusal, toDate } from "heist-client";

/** Why a robbery did not happen, for the player who tried. */
export function sentenceFor(refusal: Refusal, victimName: string): string {
  switch (refusal.reason) {
    case "INSUFFICIENT_TOKENS":
      return "You have no heist token. Invite a friend to earn one.";
    case "COOLDOWN_ACTIVE":
      return `You can rob again in ${duration(refusal.retryAfterMs)}.`;
    case "INSUFFICIENT_POINTS":
      return `${victimName} is too poor to be robbed.`;
    case "TARGET_PROTECTED":
      return `${victimName} is protected for another ${duration(refusal.retryAfterMs)}.`;
    case "TARGET_NOT_FOUND":
      return "This player does not exist any more.";
    case "ATTACKER_NOT_FOUND":
      return "Your account does not exist any more.";
    case "SELF_TARGET":
      return "You cannot rob yourself.";
    case "POINTS_LIMIT_REACHED":
      return "You have as many points as a player can have.";
    case "RATE_LIMITED":
      return `That was too often. Try again in ${duration(refusal.retryAfterMs)}.`;
    case "FEATURE_DISABLED":
      return "Heists are closed at the moment.";
    case "REQUEST_ID_REUSED":
      return "This robbery was already decided. Reload the page.";
    case "NO_CONNECTION":
    case "CONNECTION_LOST":
    case "DATABASE_UNAVAILABLE":
    case "OVERLOADED":
    case "CONTENTION":
    case "DEADLINE_EXCEEDED":
    case "SHUTTING_DOWN":
      return "That did not work. Try again: nothing is done twice.";
    default:
      return "Something went wrong.";
  }
}

/** Why a player cannot be robbed now, next to their name; undefined where they can. */
export function obstacle(eligibility: Eligibility, now: number): string | undefined {
  const until = (time: Eligibility["cooldownEndTime"]) => duration(Math.max(0, (toDate(time)?.getTime() ?? now) - now));
  switch (eligibility.reason) {
    case RefusalReason.UNSPECIFIED:
      return undefined;
    case RefusalReason.SELF_TARGET:
      return "This is you";
    case RefusalReason.INSUFFICIENT_TOKENS:
      return "You have no token";
    case RefusalReason.COOLDOWN_ACTIVE:
      return `You wait another ${until(eligibility.cooldownEndTime)}`;
    case RefusalReason.INSUFFICIENT_POINTS:
      return "Too poor";
    case RefusalReason.POINTS_LIMIT_REACHED:
      return "You have all points a player can have";
    case RefusalReason.TARGET_PROTECTED:
      return `Protected for ${until(eligibility.protectionEndTime)}`;
    default:
      return "Cannot be robbed";
  }
}

/** A time span in the largest unit that says enough: "23 hours", "5 minutes", "1 second". */
export function duration(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  const units: [number, string][] = [[3_600, "hour"], [60, "minute"], [1, "second"]];
  const [length, name] = units.find(([length]) => seconds >= 2 * length) ?? [1, "second"];
  const count = Math.ceil(seconds / length);
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}
