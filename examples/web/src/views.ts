// What the page gets: plain objects, with texts and times as it shows them.

import { type Heist, type LeaderboardEntry, type Notification, toDate } from "heist-client";
import { obstacle } from "./sentences.ts";

export function entryView(entry: LeaderboardEntry, now: number) {
  const { rank, userId, name, monthlyPoints, tokenBalance, eligibility } = entry;
  return {
    rank,
    id: userId,
    name,
    points: monthlyPoints,
    tokens: tokenBalance,
    // The viewer's own entry has none.
    canBeRobbed: eligibility?.eligible ?? false,
    stake: eligibility?.pointsAtStake ?? 0,
    obstacle: eligibility && obstacle(eligibility, now),
  };
}

export function notificationView({ id, title, message, read, createTime }: Notification) {
  return { id: String(id), title, message, read, time: toDate(createTime)?.toISOString() };
}

export function heistView({ id, attackerId, attackerName, victimName, pointsStolen, createTime }: Heist, playerId: number) {
  const won = attackerId === playerId;
  return {
    id: String(id),
    won,
    // A player who has been deleted has no name.
    other: (won ? victimName : attackerName) || "a player who left",
    points: pointsStolen,
    time: toDate(createTime)?.toISOString(),
  };
}
