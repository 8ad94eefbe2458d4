import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
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

test("a Redis that may evict keys is refused, and to try again is no help", async () => {
  const admin = new Redis(server.url);
  for (const policy of ["allkeys-lru", "volatile-ttl"]) {
    await admin.config("SET", "maxmemory-policy", policy);
    await assert.rejects(RedisConnections.open(server, { log }), {
      code: "redis-evicts",
      retryable: false,
      message: new RegExp(policy),
    });
  }
  await admin.config("SET", "maxmemory-policy", "noeviction");
  await admin.quit();
  await (await RedisConnections.open(server, { log })).end();
});

test("a user whom Redis refuses is told so; one that may not use CONFIG is let in", async () => {
  const admin = new Redis(server.url);
  await admin.acl("SETUSER", "jobs", "on", ">secret", "~*", "+@all", "-config");
  const url = (password: string) => server.url.replace("redis://", `redis://jobs:${password}@`);
  await assert.rejects(RedisConnections.open({ url: url("wrong") }, { log }), {
    code: "redis-refused",
    retryable: false,
  });
  await (await RedisConnections.open({ url: url("secret") }, { log })).end();
  await admin.quit();
});

test("a Redis that is not there, or does not answer, is reported within a bound as worth another try", async () => {
  const unavailable = { code: "redis-unavailable", retryable: true };
  await assert.rejects(RedisConnections.open({ url: "redis://127.0.0.1:1" }, { log }), unavailable);
  server.pause();
  try {
    const opening = RedisConnections.open(server, { log });
    assert.ok((await duration(opening)) < 8_000);
    await assert.rejects(opening, unavailable);
  } finally {
    server.resume();
  }
});

test("while Redis is away prompt commands fail at once and patient ones wait; two lines tell of it", async () => {
  const proxy = new CuttableProxy({ host: "127.0.0.1", port: server.port });
  const url = `redis://127.0.0.1:${await proxy.listen()}`;
  const connections = await RedisConnections.open({ url }, { log });
  const { prompt, patient } = connections;
  const changes: boolean[] = [];
  connections.onChange((isAway) => changes.push(isAway));
  lines.length = 0;
  proxy.cut();
  await until("it is noticed", () => connections.isAway);
  const waiting = patient.incr("counted");
  const tookMs = await duration(
    Promise.allSettled(Array.from({ length: 10_000 }, () => prompt.incr("never"))),
  );
  assert.ok(tookMs < 2_000, `10,000 commands took ${tookMs} ms to fail`);
  proxy.restore();
  assert.equal(await waiting, 1);
  await until("it is back", () => !connections.isAway);
  assert.equal(await prompt.get("never"), null);
  assert.deepEqual(changes, [true, false]);
  assert.deepEqual(lines, ["redis is away, connecting again", "redis is back"]);
  await connections.end();
  await proxy.close();
});

test("while Redis does not answer prompt commands fail within a bound, and connections are made anew", async () => {
  const connections = await RedisConnections.open(server, { log: silent });
  const reconnected = Promise.all(
    [connections.prompt, connections.patient, connections.blocking].map((redis) => once(redis, "close")),
  );
  server.pause();
  try {
    assert.ok((await duration(connections.prompt.ping())) < 4_000);
    await reconnected;
    assert.ok((await duration(connections.prompt.ping())) < 4_000);
  } finally {
    server.resume();
  }
  await until("it answers", () => !connections.isAway);
  assert.equal(await connections.patient.ping(), "PONG");
  await connections.end();
});

test("connections end within a bound, and with them what waits, whatever state they are in", async () => {
  const proxy = new CuttableProxy({ host: "127.0.0.1", port: server.port });
  for (const { state, url, leave, back } of [
    { state: "connected", url: server.url, leave() {}, back() {} },
    {
      state: "between two attempts to connect",
      url: `redis://127.0.0.1:${await proxy.listen()}`,
      leave: () => proxy.cut(),
      back: () => proxy.restore(),
    },
    { state: "without an answer", url: server.url, leave: () => server.pause(), back: () => server.resume() },
  ]) {
    const connections = await RedisConnections.open({ url }, { log: silent });
    const { prompt, patient, blocking } = connections;
    leave();
    if (state.startsWith("between")) {
      await until("attempts fail", () =>
        [patient, blocking].every(({ status }) => status === "reconnecting"),
      );
    }
    const waiting = assert.rejects(blocking.bzpopmin("nothing", 0), /Connection is closed/);
    assert.ok((await duration(connections.end())) < 2_000, state);
    await waiting;
    assert.ok([prompt, patient, blocking].every(({ status }) => status === "end"));
    assert.ok((await duration(connections.end())) < 100, "what has ended stays so");
    back();
  }
  await proxy.close();
});

test("the keys of a namespace are deleted, and only those", async () => {
  const admin = new Redis(server.url);
  for (let key = 0; key < 2_000; key += 1) await admin.set(`{mine}:seals:${key}`, "x");
  await admin.set("{mine-too}:seals:1", "x");
  await deleteRedisNamespace({ url: server.url, namespace: "mine" });
  await deleteRedisNamespace({ url: server.url, namespace: "mine" });
  assert.deepEqual(await admin.keys("{mine*"), ["{mine-too}:seals:1"]);
  await admin.quit();
});

test("rediss:// is TLS, and a certificate that nobody vouches for is refused", async () => {
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const files = ["-keyout", key, "-out", cert];
  execFileSync(
    "openssl",
    ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", ...subject, ...files],
    {
      stdio: "ignore",
    },
  );
  const front = tls.createServer({ key: await readFile(key), cert: await readFile(cert) }, (socket) => {
    const upstream = connect(server.port, "127.0.0.1");
    socket.on("error", () => upstream.destroy()).on("close", () => upstream.destroy());
    upstream.on("error", () => socket.destroy()).on("close", () => socket.destroy());
    socket.pipe(upstream).pipe(socket);
  });
  front.on("tlsClientError", () => {});
  await new Promise<void>((done) => front.listen(0, "127.0.0.1", done));
  const address = front.address();
  const url = `rediss://localhost:${typeof address === "object" ? address?.port : 0}`;
  await assert.rejects(RedisConnections.open({ url }, { log }), { code: "redis-unavailable" });
  tls.setDefaultCACertificates([...tls.getCACertificates(), await readFile(cert, "utf8")]);
  const connections = await RedisConnections.open({ url }, { log });
  assert.equal(await connections.prompt.ping(), "PONG");
  await connections.end();
  await new Promise((done) => front.close(done));
});
