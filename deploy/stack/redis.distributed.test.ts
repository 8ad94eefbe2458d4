import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { until } from "../../tests/support/until.ts";
import { identify, serversOn } from "./processes.ts";
import { startRedis } from "./redis.ts";
import { VERSIONS } from "./versions.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-test-redis-"));
after(() => rm(folder, { recursive: true, force: true }));

async function withClient<T>(url: string, body: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url, {
    maxRetriesPerRequest: 0,
    commandTimeout: 1_000,
    retryStrategy: () => null,
  });
  client.on("error", () => {});
  try {
    return await body(client);
  } finally {
    client.disconnect();
  }
}

test("Redis evicts nothing, keeps its data over a kill and a start on the same port, and leaves no process", async () => {
  const dataDir = join(folder, "kept");
  const server = await startRedis({ dataDir });
  const { port } = server;
  await withClient(server.url, async (client) => {
    assert.deepEqual(await client.config("GET", "maxmemory-policy"), ["maxmemory-policy", "noeviction"]);
    assert.match(await client.info("server"), new RegExp(`redis_version:${VERSIONS.redis}\\.`));
    await client.set("kept", "value");
  });
  await server.kill();
  assert.equal(server.running, false);
  assert.deepEqual(serversOn([`${dataDir}/`]), []);
  await server.start();
  assert.equal(server.port, port);
  assert.equal(await withClient(server.url, (client) => client.get("kept")), "value");
  await server.stop();
  assert.equal(server.running, false);
  assert.deepEqual(serversOn([`${dataDir}/`]), []);
  assert.equal(existsSync(join(dataDir, "process.json")), false);
});

test("arguments of the caller override those of the stack", async () => {
  const server = await startRedis({
    dataDir: join(folder, "evicting"),
    args: ["--maxmemory-policy", "allkeys-lru"],
  });
  try {
    const policy = await withClient(server.url, (client) => client.config("GET", "maxmemory-policy"));
    assert.deepEqual(policy, ["maxmemory-policy", "allkeys-lru"]);
  } finally {
    await server.stop();
  }
});

test("a paused server answers nothing until it is resumed, and can be stopped while it is paused", async () => {
  const server = await startRedis({ dataDir: join(folder, "paused") });
  await withClient(server.url, async (client) => {
    await client.set("key", "1");
    server.pause();
    await assert.rejects(client.get("key"), /timed out/);
    server.resume();
    await until("it answers again", () =>
      client.get("key").then(
        (value) => value === "1",
        () => false,
      ),
    );
  });
  server.pause();
  await server.stop();
  assert.deepEqual(serversOn([`${folder}/paused/`]), []);
});

test("a second server on the same folder, or on a port that is taken, is refused by name", async () => {
  const first = await startRedis({ dataDir: join(folder, "first") });
  try {
    await assert.rejects(startRedis({ dataDir: join(folder, "first") }), { code: "server-runs-already" });
    await assert.rejects(startRedis({ dataDir: join(folder, "second"), port: first.port }), {
      code: "port-in-use",
      message: new RegExp(`port ${first.port} of redis is taken`),
    });
  } finally {
    await first.stop();
  }
});

test("a server that cannot start says why", async () => {
  await assert.rejects(startRedis({ dataDir: join(folder, "wrong"), args: ["--no-such-option", "1"] }), {
    code: "server-failed",
    message: /redis ended while it started: .*no-such-option/s,
  });
});

for (const [how, end] of [
  ["throws", "throw new Error('uncaught');"],
  ["is killed", "process.kill(process.pid, 'SIGKILL');"],
  ["is terminated", "process.kill(process.pid, 'SIGTERM'); setInterval(() => {}, 1000);"],
] as const) {
  test(`no server is left when the process that started it ${how}`, async () => {
    const dataDir = join(folder, how.replaceAll(" ", "-"));
    const module = JSON.stringify(new URL("redis.ts", import.meta.url).href);
    const script = `import { startRedis } from ${module};
      await startRedis({ dataDir: ${JSON.stringify(dataDir)} });
      ${end}`;
    const starter = spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: "ignore" });
    await once(starter, "exit");
    const { pid } = JSON.parse(readFileSync(join(dataDir, "process.json"), "utf8")) as { pid: number };
    await until("the server is gone", () => identify(pid) === undefined, 5_000);
  });
}

test("a server keeps no process from ending that has nothing else to do", async () => {
  const module = JSON.stringify(new URL("redis.ts", import.meta.url).href);
  const script = `import { startRedis } from ${module};
    await startRedis({ dataDir: ${JSON.stringify(join(folder, "idle"))} });`;
  await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script], { timeout: 20_000 });
});
