import assert from "node:assert/strict";
import { execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { chmod, readFile, rm, stat, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import pino from "pino";
import { EmbeddedPostgres } from "../../service/embedded-postgres.ts";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { RecordingConsumer } from "../../tests/support/recording-consumer.ts";
import { until } from "../../tests/support/until.ts";
import type { Appender, EventLog } from "../event-log.ts";
import { APPENDER_FAULT_POINTS } from "./postgres-appender.ts";
import { PostgresEventLog } from "./postgres-event-log.ts";

const log = pino({ level: "silent" });
const cleanups: (() => unknown)[] = [];
after(async () => {
  for (const cleanup of cleanups.toReversed()) await cleanup();
});

/** A server of the test's own; `dataDir` lies in `folder`. */
async function startServer(folder: string, ...postgresFlags: string[]): Promise<EmbeddedPostgres> {
  await chmod(folder, 0o755);
  const server = new EmbeddedPostgres({ dataDir: join(folder, "postgres"), port: 0, postgresFlags });
  await server.start();
  cleanups.push(() => server.stop());
  return server;
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "gridroot-log-faults-"));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function dataFolder(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const result = await client.query<{ data_directory: string }>("show data_directory");
  await client.end();
  return result.rows[0]!.data_directory;
}

async function postmasterPid(url: string): Promise<number> {
  const file = await readFile(join(await dataFolder(url), "postmaster.pid"), "utf8");
  return Number(file.split("\n")[0]);
}

function processes(parent: number): number[] {
  const list = execFileSync("ps", ["-o", "pid=", "--ppid", String(parent)], { encoding: "utf8" });
  return [parent, ...list.trim().split(/\s+/).map(Number)];
}

/** Signals a server process, which may have ended since it was listed. */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "ESRCH");
  }
}

/** Appends `key` again and again until it has been confirmed, as a meter sends again until it is acknowledged. */
async function appendSurely(
  appender: Appender,
  topic: string,
  partition: number,
  key: string,
): Promise<void> {
  await until(
    `${key} is confirmed`,
    async () => {
      try {
        await appender.append([{ topic, partition, key, headers: {}, value: Buffer.from(key) }]);
        return true;
      } catch (error) {
        assert.equal((error as { code?: string }).code, "append-failed");
        return false;
      }
    },
    30_000,
  );
}

async function keysIn(eventLog: EventLog, topic: string, partition: number): Promise<string[]> {
  return (await eventLog.read({ topic, partition }, 0n, 1_000_000)).map(({ key }) => key);
}

test("what was confirmed before the server was killed is there after its restart, and consumers go on", async (t) => {
  const folder = temporaryFolder();
  const server = await startServer(folder, "-c", "fsync=off");
  const lines: string[] = [];
  const eventLog = await PostgresEventLog.open(
    { connectionString: server.url, leaseMs: 1_500 },
    { log: pino({ level: "info" }, { write: (line) => lines.push(line) }) },
  );
  cleanups.push(() => eventLog.close());
  const partitions = 3;
  await eventLog.ensureTopics([{ topic: "killed", partitions }]);
  const consumer = await new RecordingConsumer().join(eventLog, "killed", ["killed"]);

  const confirmed: string[][] = Array.from({ length: partitions }, () => []);
  const enough = new AbortController();
  const load = Array.from({ length: partitions }, async (_, partition) => {
    const appender = await eventLog.openAppender();
    for (let n = 0; !enough.signal.aborted; n += 1) {
      await appendSurely(appender, "killed", partition, `${partition}-${n}`);
      confirmed[partition]!.push(`${partition}-${n}`);
    }
  });
  for (let round = 0; round < 2; round += 1) {
    const before = confirmed.flat().length;
    await until("the load runs", () => confirmed.flat().length > before + 100);
    process.kill(await postmasterPid(server.url), "SIGKILL");
    // The new server takes the old port; until the last of the old one's processes has gone it refuses to start.
    const { port } = new URL(server.url);
    await until("the server is back", () => restart(folder, Number(port)), 20_000);
  }
  const before = confirmed.flat().length;
  await until("the load runs again", () => confirmed.flat().length > before + 100, 20_000);
  enough.abort();
  await Promise.all(load);

  for (let partition = 0; partition < partitions; partition += 1) {
    const keys = await keysIn(eventLog, "killed", partition);
    assert.deepEqual([...new Set(keys)], confirmed[partition], "every key, in order; repeats are allowed");
    const consumed = () => consumer.group.records.get(`killed/${partition}`) ?? [];
    await until("the consumer has read all", () => consumed().length === keys.length, 20_000);
    assert.deepEqual(
      consumed().map(({ key }) => key),
      keys,
    );
  }
  assert.deepEqual(consumer.group.breaches, []);
  assert.ok(lines.length <= 40, `an outage is told in few lines, not in ${lines.length}`);
  t.diagnostic(lines.map((line) => (JSON.parse(line) as { msg: string }).msg).join("; "));
});

async function restart(folder: string, port: number): Promise<boolean> {
  const server = new EmbeddedPostgres({
    dataDir: join(folder, "postgres"),
    port,
    postgresFlags: ["-c", "fsync=off"],
  });
  try {
    await server.start();
    return new URL(server.url).port === String(port);
  } catch {
    return false;
  }
}

for (const [point, unconfirmed] of [
  ["event-log.before-append", 0],
  ["event-log.after-append", 1],
] as const) {
  test(`a process killed at ${point} loses nothing that was confirmed, and readers see what it left`, async () => {
    assert.ok(APPENDER_FAULT_POINTS.includes(point));
    const connectionString = await createTestDatabase();
    const eventLog = await PostgresEventLog.open({ connectionString, pollMs: 100 }, { log });
    cleanups.push(() => eventLog.close());
    const topic = "crash";
    await eventLog.ensureTopics([{ topic, partitions: 1 }]);
    const consumer = await new RecordingConsumer().join(eventLog, topic, [topic]);
    const program = fileURLToPath(new URL("../../tests/support/event-log-appender.ts", import.meta.url));
    const child = fork(program, [connectionString, topic, `${point}:20`]);
    const confirmed: string[] = [];
    child.on("message", (key) => confirmed.push(key as string));
    const [, signalName] = (await once(child, "exit")) as [number | null, string | null];
    assert.equal(signalName, "SIGKILL");
    const keys = await keysIn(eventLog, topic, 0);
    assert.deepEqual(keys.slice(0, confirmed.length), confirmed);
    assert.equal(keys.length, 19 + unconfirmed);
    await until("the consumer has read all", () => consumer.group.count() === keys.length);
  });
}

test("an append to a server that does not answer rejects within the bound, and the next one after it resolves", async () => {
  const server = await startServer(temporaryFolder(), "-c", "fsync=off");
  const appendTimeoutMs = 500;
  const eventLog = await PostgresEventLog.open({ connectionString: server.url, appendTimeoutMs }, { log });
  cleanups.push(() => eventLog.close());
  await eventLog.ensureTopics([{ topic: "paused", partitions: 1 }]);
  const appender = await eventLog.openAppender();
  const append = (key: string) =>
    appender.append([{ topic: "paused", partition: 0, key, headers: {}, value: Buffer.from(key) }]);
  await append("before");

  const paused = processes(await postmasterPid(server.url));
  for (const pid of paused) signal(pid, "SIGSTOP");
  try {
    // The first on the open connection, the second while connecting.
    for (const key of ["during", "connecting"]) {
      const startedAt = performance.now();
      const outcome = Promise.race([append(key), delay(10_000, undefined, { ref: false })]);
      await assert.rejects(outcome, { code: "append-failed", retryable: true });
      const tookMs = performance.now() - startedAt;
      assert.ok(tookMs < appendTimeoutMs + 2_000, `took ${tookMs} ms`);
    }
  } finally {
    for (const pid of paused) signal(pid, "SIGCONT");
  }
  await appendSurely(appender, "paused", 0, "after");
  const keys = await keysIn(eventLog, "paused", 0);
  assert.equal(keys[0], "before");
  assert.equal(keys.filter((key) => key === "after").length, 1);
});

/** A folder on a small file system, or undefined where this process may not mount one. */
function smallFolder(): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "gridroot-log-small-"));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=120m", "tmpfs", folder], { stdio: "ignore" });
  } catch {
    return undefined;
  }
  cleanups.push(() => execFileSync("umount", ["--lazy", folder]));
  return folder;
}

test("a full disk is reported by the append, and the log goes on once there is space", async (t) => {
  const small = smallFolder();
  const folder = small ?? temporaryFolder();
  const server = await startServer(folder, "-c", "max_wal_size=32MB", "-c", "min_wal_size=32MB");
  assert.equal(await dataFolder(server.url), join(folder, "postgres"), "the server is on the small disk");
  const eventLog = await PostgresEventLog.open({ connectionString: server.url }, { log });
  cleanups.push(() => eventLog.close());
  await eventLog.ensureTopics([{ topic: "full", partitions: 1 }]);
  const disk = small === undefined ? await limitFileSize(t, server.url) : await almostFill(small);
  const appender = await eventLog.openAppender();
  const confirmed: string[] = [];
  const value = new Uint8Array(200_000).map(() => Math.random() * 256);
  const append = async (key: string) => {
    await appender.append([{ topic: "full", partition: 0, key, headers: {}, value }]);
    confirmed.push(key);
  };
  const failure = await (async () => {
    for (let n = 0; n < 2_000; n += 1) {
      try {
        await append(`${n}`);
      } catch (error) {
        return error as Error & { code?: string; cause?: Error };
      }
    }
    return undefined;
  })();
  assert.equal(failure?.code, "append-failed");
  t.diagnostic(`refused after ${confirmed.length} appends: ${failure.cause?.message}`);
  await disk.free();
  await until("the server is back", () => restart(folder, Number(new URL(server.url).port)), 20_000);
  await appendSurely(appender, "full", 0, "after");
  const keys = await keysIn(eventLog, "full", 0);
  assert.deepEqual(
    keys.filter((key) => confirmed.includes(key) || key === "after"),
    [...confirmed, "after"],
  );
});

/** Leaves a few megabytes free on the small file system. */
async function almostFill(folder: string): Promise<{ free(): Promise<void> }> {
  const ballast = join(folder, "ballast");
  const { bavail, bsize } = await statfs(folder);
  await writeFile(ballast, Buffer.alloc(Math.max(0, bavail * bsize - 6_000_000)));
  return { free: () => rm(ballast) };
}

/** Where nothing may be mounted: the kernel refuses the server files above a size, as it would on a full disk. */
async function limitFileSize(t: TestContext, url: string): Promise<{ free(): Promise<void> }> {
  t.diagnostic("mounting is not permitted here: the server's file size is limited instead of its disk");
  const pid = await postmasterPid(url);
  const { uid, gid } = await stat(`/proc/${pid}`);
  // Each connection's process inherits the limit of its parent.
  const limit = (bytes: string) =>
    execFileSync("prlimit", [`--fsize=${bytes}:unlimited`, "--pid", String(pid)], {
      stdio: "pipe",
      uid,
      gid,
    });
  limit("17000000");
  return {
    free() {
      limit("unlimited");
      return Promise.resolve();
    },
  };
}
