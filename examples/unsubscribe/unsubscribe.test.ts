import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { isSigned, unsubscribePage } from "./unsubscribe.ts";

const KEY = "key";
// printf 7 | openssl dgst -sha256 -hmac key: the same link as in the tests of the service.
const PROOF = "01235b0d2aa4a5daba7243a9228194c8eff913ac5e56e967301210270380bc42";
const ONE_CLICK = { method: "POST", body: new URLSearchParams({ "List-Unsubscribe": "One-Click" }) };

async function withPage(
  unsubscribe: (player: number) => Promise<void>,
  body: (url: string) => Promise<void>,
): Promise<void> {
  const server = createServer(unsubscribePage(KEY, unsubscribe)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  try {
    await body(`http://127.0.0.1:${port}/unsubscribe`);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

test("the signature is that of the service", () => {
  assert.ok(isSigned(KEY, "7", PROOF));
  assert.ok(!isSigned(KEY, "8", PROOF));
  assert.ok(!isSigned("other", "7", PROOF));
  for (const proof of ["", "00", `${PROOF}00`, "x".repeat(64)]) assert.ok(!isSigned(KEY, "7", proof));
});

test("one click unsubscribes the player of the link", async () => {
  const players: number[] = [];
  await withPage(
    async (player) => void players.push(player),
    async (url) => {
      const answer = await fetch(`${url}?player=7&proof=${PROOF}`, ONE_CLICK);
      assert.equal(answer.status, 200);
    },
  );
  assert.deepEqual(players, [7]);
});

test("nothing else unsubscribes", async () => {
  await withPage(
    async () => assert.fail("it unsubscribed"),
    async (url) => {
      const follow = await fetch(`${url}?player=7&proof=${PROOF}`);
      assert.equal(follow.status, 200);
      assert.match(await follow.text(), /<form method="post">/);
      for (const query of ["", "?player=7", `?player=8&proof=${PROOF}`, `?player=7x&proof=${PROOF}`]) {
        assert.equal((await fetch(url + query, ONE_CLICK)).status, 403, query);
      }
      const wrong = { method: "POST", body: new URLSearchParams({ "List-Unsubscribe": "no" }) };
      assert.equal((await fetch(`${url}?player=7&proof=${PROOF}`, wrong)).status, 400);
    },
  );
});

test("a failure of the service is reported, so that the mail program may repeat", async () => {
  await withPage(
    async () => Promise.reject(new Error("away")),
    async (url) => {
      const answer = await fetch(`${url}?player=7&proof=${PROOF}`, ONE_CLICK);
      assert.equal(answer.status, 503);
    },
  );
});
