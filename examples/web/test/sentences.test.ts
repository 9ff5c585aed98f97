import assert from "node:assert/strict";
import { it } from "node:test";
import { duration, sentenceFor } from "../src/sentences.ts";

it("a time span is told in the largest unit that says enough", () => {
  const spans: [number, string][] = [
    [1, "1 second"],
    [1_001, "2 seconds"],
    [119_000, "119 seconds"],
    [120_000, "2 minutes"],
    [120_001, "3 minutes"],
    [86_400_000, "24 hours"],
  ];
  for (const [ms, text] of spans) assert.equal(duration(ms), text);
});

it("a refusal is a sentence about the player who was clicked, and never the text of the service", () => {
  const message = "The text of the service.";
  assert.equal(sentenceFor({ reason: "INSUFFICIENT_POINTS", message, victimPoints: 1, pointsRequired: 20 }, "Zoe"), "Zoe is too poor to be robbed.");
  assert.equal(sentenceFor({ reason: "OTHER", message, otherReason: "NEW" }, "Zoe"), "Something went wrong.");
});
