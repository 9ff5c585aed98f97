// Rotates the keys of a real OpenID provider while a server answers calls. Every call must succeed.
//
//     node rotate.mjs PATH-OF-HEIST

import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { connect } from "node:http2";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const program = process.argv[2];
let provider;
let issuer;

function newKey(kid) {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid, use: "sig", alg: "ES256" };
}

// Replaces the provider. The new one signs with the first key, and publishes all keys.
async function publish(keys) {
  const port = issuer ? Number(new URL(issuer).port) : 0;
  if (provider) await new Promise((done) => { provider.close(done); provider.closeAllConnections(); });
  provider = createServer();
  await new Promise((done) => provider.listen(port, "127.0.0.1", done));
  issuer = `http://127.0.0.1:${provider.address().port}`;
  const oidc = new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: "web",
      client_secret: "secret",
      id_token_signed_response_alg: "ES256",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    }],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => "urn:heist",
        getResourceServerInfo: () => ({
          scope: "heist.read",
          audience: "heist",
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
  });
  provider.on("request", oidc.callback());
}

async function newToken() {
  const request = () => fetch(`${issuer}/token`, {
    method: "POST",
    headers: { authorization: `Basic ${btoa("web:secret")}` },
    body: new URLSearchParams({ grant_type: "client_credentials", scope: "heist.read" }),
  });
  // The first attempt may use an old connection, which the replaced provider has closed.
  const answer = await request().catch(request);
  const body = await answer.json();
  if (!body.access_token) throw new Error(JSON.stringify(body));
  return body.access_token;
}

function call(session, token) {
  return new Promise((done, failed) => {
    const stream = session.request({
      ":method": "POST",
      ":path": "/heist.v1.HeistService/GetLeaderboard",
      "content-type": "application/grpc",
      te: "trailers",
      authorization: `Bearer ${token}`,
    });
    let status;
    const read = (headers) => { status = headers["grpc-status"] ?? status; };
    stream.on("response", read);
    stream.on("trailers", read);
    stream.on("error", failed);
    stream.on("end", () => done(status));
    stream.resume();
    stream.end(Buffer.alloc(5));
  });
}

await publish([newKey("1")]);
const directory = mkdtempSync("/tmp/heist-oidc-");
// PostgreSQL runs as another user than root.
chmodSync(directory, 0o755);
const heist = spawn(program, ["serve"], {
  env: {
    PATH: process.env.PATH,
    PG_BIN_DIR: process.env.PG_BIN_DIR ?? "",
    HEIST_DATA_DIR: directory,
    HEIST_LISTEN: "127.0.0.1:0",
    HEIST_METRICS_LISTEN: "",
    HEIST_LOG_FORMAT: "json",
    HEIST_AUTH: "jwt",
    HEIST_JWT_ISSUER: issuer,
    HEIST_JWT_AUDIENCE: "heist",
  },
  stdio: ["ignore", "ignore", "pipe"],
});
let exitCode = 1;
try {
  const address = await new Promise((done, failed) => {
    heist.on("exit", (code) => failed(new Error(`heist exited with ${code}`)));
    createInterface({ input: heist.stderr }).on("line", (line) => {
      process.stderr.write(`${line}\n`);
      if (line.includes('"message":"serving"')) done(JSON.parse(line).address);
    });
  });
  const session = connect(`http://${address}`);
  let token = await newToken();
  let calls = 0;
  const failures = [];
  let isRunning = true;
  const load = Promise.all(Array.from({ length: 8 }, async () => {
    while (isRunning) {
      const status = await call(session, token);
      calls += 1;
      if (status !== "0") failures.push(status);
    }
  }));
  const pause = () => new Promise((done) => setTimeout(done, 2000));
  const second = newKey("2");
  await pause();
  await publish([second]);
  token = await newToken();
  await pause();
  await publish([newKey("3"), second]);
  token = await newToken();
  await pause();
  isRunning = false;
  await load;
  session.close();
  console.log(`${calls} calls through two rotations, ${failures.length} failures`);
  exitCode = failures.length === 0 && calls > 100 ? 0 : 1;
} catch (error) {
  console.error(error);
} finally {
  heist.kill();
  await new Promise((done) => heist.on("exit", done));
  rmSync(directory, { recursive: true, force: true });
  process.exit(exitCode);
}
