import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import tls from "node:tls";
import { Redis } from "ioredis";
import pino from "pino";
import { startRedis } from "../deploy/stack/redis.ts";
import { until } from "../tests/support/until.ts";
import { CuttableProxy } from "../time-series/tests/cuttable-proxy.ts";
import { deleteRedisNamespace, RedisConnections } from "./redis.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-redis-"));
const server = await startRedis({ dataDir: join(folder, "server") });
after(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

const lines: string[] = [];
const log = pino(
  { level: "info" },
  { write: (line) => lines.push((JSON.parse(line) as { msg: string }).msg) },
);
const silent = pino({ level: "silent" });

/** How long it takes, or that it takes longer than 10 s, ms. */
async function duration(work: Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await Promise.race([work.catch(() => {}), delay(10_000, undefined, { ref: false })]);
  return performance.now() - startedAt;
}

/** Connections that end with the test, if not before. */
async function open(t: TestContext, url = server.url, logger = silent): Promise<RedisConnections> {
  const connections = await RedisConnections.open({ url }, { log: logger });
  t.after(() => duration(connections.end()));
  return connections;
}

/** A way to the server that can be cut. */
async function proxied(t: TestContext): Promise<{ url: string; cut(): void; restore(): void }> {
  const proxy = new CuttableProxy({ host: "127.0.0.1", port: server.port });
  t.after(() => proxy.close());
  const url = `redis://127.0.0.1:${await proxy.listen()}`;
  return { url, cut: () => proxy.cut(), restore: () => proxy.restore() };
}

/** A client that sets the scene. */
function administrator(t: TestContext): Redis {
  const admin = new Redis(server.url);
  admin.on("error", () => {});
  t.after(() => admin.disconnect());
  return admin;
}

test("a Redis that may evict keys is refused, and to try again is no help", async (t) => {
  const admin = administrator(t);
  for (const policy of ["allkeys-lru", "volatile-ttl"]) {
    await admin.config("SET", "maxmemory-policy", policy);
    await assert.rejects(open(t), {
      code: "redis-evicts",
      retryable: false,
      message: new RegExp(policy),
    });
  }
  await admin.config("SET", "maxmemory-policy", "noeviction");
  await open(t);
});

test("a user whom Redis refuses is told so; one that may not use CONFIG is let in", async (t) => {
  const admin = administrator(t);
  await admin.acl("SETUSER", "jobs", "on", ">secret", "~*", "+@all", "-config");
  const url = (password: string) => server.url.replace("redis://", `redis://jobs:${password}@`);
  await assert.rejects(open(t, url("wrong")), {
    code: "redis-refused",
    retryable: false,
  });
  await open(t, url("secret"));
});

test("a Redis that is not there, or does not answer, is reported within a bound as worth another try", async (t) => {
  const unavailable = { code: "redis-unavailable", retryable: true };
  await assert.rejects(open(t, "redis://127.0.0.1:1"), unavailable);
  server.pause();
  try {
    const opening = open(t);
    assert.ok((await duration(opening)) < 8_000);
    await assert.rejects(opening, unavailable);
  } finally {
    server.resume();
  }
});

test("while Redis is away prompt commands fail at once and patient ones wait; two lines tell of it", async (t) => {
  const proxy = await proxied(t);
  const connections = await open(t, proxy.url, log);
  const { prompt, patient } = connections;
  const changes: boolean[] = [];
  connections.onChange((isAway) => changes.push(isAway));
  lines.length = 0;
  proxy.cut();
  await until("it is noticed", () => connections.isAway);
  const waiting = patient.incr("counted");
  const outcomes = await Promise.allSettled(Array.from({ length: 1_000 }, () => prompt.incr("never")));
  for (const outcome of outcomes) {
    // Said before any attempt to connect: the command was kept nowhere.
    assert.match(String(outcome.status === "rejected" && outcome.reason), /isn't writeable/);
  }
  proxy.restore();
  assert.equal(await waiting, 1);
  await until("it is back", () => !connections.isAway);
  assert.equal(await prompt.get("never"), null);
  assert.deepEqual(changes, [true, false]);
  assert.deepEqual(lines, ["redis is away, connecting again", "redis is back"]);
});

test("while Redis does not answer prompt commands fail within a bound, and connections are made anew", async (t) => {
  const connections = await open(t);
  const { prompt, patient, blocking } = connections;
  let closed = 0;
  for (const redis of [prompt, patient, blocking]) redis.once("close", () => (closed += 1));
  server.pause();
  try {
    assert.ok((await duration(prompt.ping())) < 4_000);
    await until("all connections are given up", () => closed === 3);
    assert.ok((await duration(prompt.ping())) < 4_000);
  } finally {
    server.resume();
  }
  await until("it answers", () => !connections.isAway);
  assert.equal(await patient.ping(), "PONG");
});

test("connections end within a bound, and with them what waits, whatever state they are in", async (t) => {
  const proxy = await proxied(t);
  const states = [
    { state: "connected", url: server.url, leave() {}, back() {} },
    { state: "reconnecting", url: proxy.url, leave: () => proxy.cut(), back: () => proxy.restore() },
    { state: "without an answer", url: server.url, leave: () => server.pause(), back: () => server.resume() },
  ];
  for (const { state, url, leave, back } of states) {
    const connections = await open(t, url);
    const { prompt, patient, blocking } = connections;
    leave();
    if (state === "reconnecting") {
      await until("attempts fail", () => [patient, blocking].every(({ status }) => status === state));
    }
    const waiting = assert.rejects(blocking.bzpopmin("nothing", 0), /Connection is closed/);
    assert.ok((await duration(connections.end())) < 2_000, state);
    await waiting;
    assert.ok([prompt, patient, blocking].every(({ status }) => status === "end"));
    assert.ok((await duration(connections.end())) < 1_000, "what has ended stays so");
    back();
  }
});

test("the keys of a namespace are deleted, and only those", async (t) => {
  const admin = administrator(t);
  for (let key = 0; key < 2_000; key += 1) await admin.set(`{mine}:seals:${key}`, "x");
  await admin.set("{mine-too}:seals:1", "x");
  await deleteRedisNamespace({ url: server.url, namespace: "mine" });
  await deleteRedisNamespace({ url: server.url, namespace: "mine" });
  assert.deepEqual(await admin.keys("{mine*"), ["{mine-too}:seals:1"]);
});

test("rediss:// is TLS, and a certificate that nobody vouches for is refused", async (t) => {
  const [keyFile, certFile] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", ...subject];
  execFileSync("openssl", [...made, "-keyout", keyFile, "-out", certFile], { stdio: "ignore" });
  const [key, cert] = await Promise.all([readFile(keyFile, "utf8"), readFile(certFile, "utf8")]);
  const front = tls.createServer({ key, cert }, (socket) => {
    const upstream = connect(server.port, "127.0.0.1");
    socket.on("error", () => {}).on("close", () => upstream.destroy());
    upstream.on("error", () => {}).on("close", () => socket.destroy());
    socket.pipe(upstream).pipe(socket);
  });
  await new Promise<void>((done) => front.listen(0, "127.0.0.1", done));
  t.after(() => new Promise((done) => front.close(done)));
  const address = front.address();
  const url = `rediss://localhost:${typeof address === "object" ? address?.port : 0}`;
  await assert.rejects(open(t, url), { code: "redis-unavailable" });
  tls.setDefaultCACertificates([...tls.getCACertificates(), cert]);
  const connections = await open(t, url);
  assert.equal(await connections.prompt.ping(), "PONG");
  await connections.end();
});
