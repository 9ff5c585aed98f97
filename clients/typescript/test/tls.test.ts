// TLS and client certificates, which are replaced while the client lives.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { HeistError, type TlsOptions } from "../src/index.ts";
import { Network } from "./support/index.ts";
import { suite } from "./suite.ts";

const s = suite();

/** A certificate authority, and a certificate of it for each name. */
async function certificates(...names: string[]): Promise<(file: string) => string> {
  const folder = await mkdtemp(join(tmpdir(), "heist-client-"));
  s.cleanup.add(() => rm(folder, { recursive: true }));
  const path = (file: string) => join(folder, file);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  openssl("req", "-x509", ...key, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt");
  for (const name of names) {
    openssl(
      ...["req", "-x509", ...key, "-subj", `/CN=${name}`, "-CA", "ca.crt", "-CAkey", "ca.key"],
      ...["-addext", `subjectAltName=DNS:${name}`, "-addext", "basicConstraints=critical,CA:FALSE"],
      ...["-keyout", `${name}.key`, "-out", `${name}.crt`],
    );
  }
  return path;
}

async function reasonOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(() => assert.fail("the call succeeded"), (error: unknown) => error);
  assert.ok(error instanceof HeistError, String(error));
  return `${error.refusal.reason}: ${error.refusal.message}`;
}

describe("TLS", () => {
  it("checks the server's certificate and its name", async () => {
    const path = await certificates("localhost");
    const { port } = await s.serve({
      env: { HEIST_TLS_CERT_FILE: path("localhost.crt"), HEIST_TLS_KEY_FILE: path("localhost.key") },
    });
    const ca = readFileSync(path("ca.crt"), "utf8");

    await s.client(`localhost:${port}`, { tls: { ca } }).getLeaderboard({});
    await s.client(`127.0.0.1:${port}`, { tls: { ca, serverName: "localhost" } }).getLeaderboard({});
    assert.match(await reasonOf(s.client(`127.0.0.1:${port}`, { tls: { ca }, timeoutMs: 20_000 }).getLeaderboard({})), /NO_CONNECTION: .*127\.0\.0\.1/);
    assert.match(await reasonOf(s.client(`localhost:${port}`, { tls: {}, timeoutMs: 20_000 }).getLeaderboard({})), /NO_CONNECTION: .*certificate/);
  });

  it("shows a client certificate, the one of the moment to each new connection", async () => {
    const path = await certificates("localhost", "board.internal", "stranger.internal");
    writeFileSync(path("secret"), "a secret of at least thirty-two bytes, in one line");
    const { port } = await s.serve({
      env: {
        HEIST_TLS_CERT_FILE: path("localhost.crt"),
        HEIST_TLS_KEY_FILE: path("localhost.key"),
        HEIST_TLS_CLIENT_CA_FILE: path("ca.crt"),
        HEIST_TLS_CLIENT_SCOPES: "board.internal=heist.read",
        HEIST_AUTH: "jwt",
        HEIST_JWT_SECRET_FILE: path("secret"),
        HEIST_JWT_ISSUER: "test",
        HEIST_JWT_AUDIENCE: "heist",
      },
    });
    const network = await Network.start(s.cleanup, port);
    let name = "stranger.internal";
    const tls = (): TlsOptions => ({
      ca: readFileSync(path("ca.crt"), "utf8"),
      cert: readFileSync(path(`${name}.crt`), "utf8"),
      key: readFileSync(path(`${name}.key`), "utf8"),
      serverName: "localhost",
    });
    const client = s.client(network.address, { tls });

    assert.match(await reasonOf(client.getLeaderboard({})), /^UNAUTHENTICATED/);
    name = "board.internal";
    network.cut();
    await client.getLeaderboard({});
  });
});
