import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import pino from "pino";
import { Registry } from "prom-client";
import { startRedis } from "../deploy/stack/redis.ts";
import { type JobsBackend, openJobStore } from "../service/job-store.ts";
import {
  Aggregation,
  BEGIN,
  commissionRecord,
  INTERVAL_S,
  readingAt,
  silent,
} from "../tests/support/aggregation.ts";
import { until } from "../tests/support/until.ts";
import { CuttableProxy } from "../time-series/tests/cuttable-proxy.ts";

const PROGRAM = fileURLToPath(new URL("../tests/support/aggregator-process.ts", import.meta.url));
const METERS = ["m0", "m1", "m2"];
const folder = await mkdtemp(join(tmpdir(), "gridroot-redis-faults-"));
const server = await startRedis({ dataDir: join(folder, "server") });
after(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Sealing {
  readonly it: Aggregation;
  readonly jobs: Extract<JobsBackend, { kind: "redis" }>;
}

async function sealing(t: TestContext, url = server.url): Promise<Sealing> {
  const jobs = { kind: "redis", url, namespace: `faults-${randomUUID()}` } as const;
  const it = await Aggregation.open({ jobs });
  t.after(() => it.close());
  return { it, jobs };
}

/** Every meter reports at the ends of the intervals `from` to `to`, 10 Wh more each time. */
async function report(it: Aggregation, from: number, to = from): Promise<void> {
  for (let interval = from; interval <= to; interval += 1) {
    await it.publish(METERS.map((meterId) => readingAt(meterId, interval * INTERVAL_S, interval * 10)));
  }
}

/** Each interval up to `last` is sealed in one batch of 30 Wh that follows the one before. */
async function assertSealedOnce(it: Aggregation, last: number): Promise<void> {
  const batches = await it.batches();
  assert.deepEqual(
    batches.map(({ content }) => [content.prevInterval, content.interval, content.intervalCreditWh]),
    Array.from({ length: last }, (_, index) => [
      index === 0 ? 0 : BEGIN + index * INTERVAL_S,
      BEGIN + (index + 1) * INTERVAL_S,
      30n,
    ]),
  );
}

async function stopsWithin(stopping: Promise<void>, boundMs: number): Promise<void> {
  const late = delay(boundMs, "late", { ref: false });
  assert.notEqual(await Promise.race([stopping, late]), "late", `the stop takes more than ${boundMs} ms`);
}

test("sealing waits while Redis is dead and goes on when it is back, with its data or without", async (t) => {
  const { it, jobs } = await sealing(t);
  const lines: string[] = [];
  const log = pino(
    { level: "warn" },
    { write: (line) => lines.push((JSON.parse(line) as { msg: string }).msg) },
  );
  const metrics = new Registry();
  // No sweep comes to help: that Redis is back is reason enough to look.
  await it.start({ graceMs: 100, sweepEveryMs: 60_000 }, { log, metrics });
  const available = async () => (await metrics.getSingleMetric("aggregator_jobs_available")!.get()).values[0];
  await it.commission(METERS.length);
  await report(it, 1);
  await it.untilSealed(1);
  for (const [round, loses] of [false, true].entries()) {
    const [first, last] = [2 + 3 * round, 4 + 3 * round];
    await server.kill();
    await until("it is noticed", async () => (await available())?.value === 0);
    const told = lines.length;
    await report(it, first, last);
    // The states are written all the same: only the seals wait.
    await until(
      "the readings are flushed",
      async () => (await it.readingsWritten()) === METERS.length * last,
    );
    assert.equal(await it.sealedUntil(), BEGIN + (first - 1) * INTERVAL_S);
    assert.deepEqual(lines.slice(told), [], "an outage is told at its begin, and not again and again");
    if (loses) await rm(join(folder, "server", "data"), { recursive: true });
    await server.start();
    await it.untilSealed(last);
    await until("it is available", async () => (await available())?.value === 1);
  }
  await assertSealedOnce(it, 7);
  await until("the sweep is scheduled", async () => (await sweeps(jobs)) > 0);
});

/** When the next sweep is scheduled, unix ms; 0 for never. */
async function sweeps(jobs: JobsBackend): Promise<number> {
  const store = await openJobStore(jobs, { log: silent });
  const queue = store.openQueue("seals");
  queue.on("error", () => {});
  const next = (await queue.getJobScheduler("sweep"))?.next ?? 0;
  await queue.close();
  await store.end();
  return next;
}

test("jobs and schedule that vanish under open connections are put back", async (t) => {
  const { it, jobs } = await sealing(t);
  // A seal fails once and waits for its next attempt, as the job is lost.
  let failures = 0;
  const faults = {
    hit(point: string) {
      if (point === "aggregator.seal.before" && failures++ === 0) throw new Error("on purpose");
    },
  };
  await it.start({ graceMs: 100, sweepEveryMs: 200 }, { faults });
  await it.commission(METERS.length);
  await report(it, 1);
  await until("a seal has failed", () => failures > 0);
  const admin = new Redis(server.url);
  await admin.flushall();
  await admin.quit();
  await it.untilSealed(1);
  const first = await sweeps(jobs);
  await until("the sweep goes on", async () => (await sweeps(jobs)) > Math.max(first, 1));
  await assertSealedOnce(it, 1);
});

test("while Redis does not answer looks pile up nowhere, and sealing goes on once it does", async (t) => {
  const { it } = await sealing(t);
  const aggregator = await it.start({ graceMs: 100, flushEveryMs: 20 });
  await it.commission(METERS.length);
  await report(it, 1);
  await it.untilSealed(1);
  server.pause();
  try {
    await report(it, 2, 5);
  } finally {
    server.resume();
  }
  await it.untilSealed(5);
  server.pause();
  try {
    await report(it, 6, 8);
    await stopsWithin(aggregator.stop(), 10_000);
  } finally {
    server.resume();
  }
  await it.start({ graceMs: 100 });
  await it.untilSealed(8);
  await assertSealedOnce(it, 8);
});

test("connections that are cut again and again neither lose nor double a seal, with two aggregators at once", async (t) => {
  const proxy = new CuttableProxy({ host: "127.0.0.1", port: server.port });
  const { it } = await sealing(t, `redis://127.0.0.1:${await proxy.listen()}`);
  t.after(() => proxy.close());
  const sealed: number[] = [];
  const onSealed = ({ interval }: { interval: number }) => sealed.push(interval);
  const options = { graceMs: 50, flushEveryMs: 50, sweepEveryMs: 100, sealLockMs: 500 };
  await it.start(options, { onSealed });
  const second = await it.start(options, { onSealed });
  await it.commission(METERS.length);
  for (let interval = 1; interval <= 12; interval += 1) {
    await report(it, interval);
    if (interval % 2 === 0) proxy.cut();
    if (interval === 8) await second.stop();
    proxy.restore();
    if (interval % 3 === 0) await it.untilSealed(interval);
  }
  await assertSealedOnce(it, 12);
  assert.equal(new Set(sealed).size, sealed.length, "no interval was sealed twice");
  assert.equal(sealed.length, 12);
});

test("a stop while Redis is dead is bounded, and lets a running seal end", async (t) => {
  t.after(() => server.start());
  const { it } = await sealing(t);
  const aggregator = await it.start({ graceMs: 100 });
  await it.commission(METERS.length);
  const blocker = await it.pool.connect();
  await blocker.query("begin");
  await blocker.query("lock table ledger.batch in share mode");
  await report(it, 1);
  const blocked = () =>
    it.rows("select from pg_locks where not granted and relation = 'ledger.batch'::regclass");
  await until("a seal waits to store its batch", async () => (await blocked()).length > 0);
  await server.kill();
  const stopping = aggregator.stop();
  await blocker.query("rollback");
  blocker.release();
  await stopsWithin(stopping, 10_000);
  await assertSealedOnce(it, 1);
});

test("kill -9 of an aggregator in the midst of a seal: another one takes the job, and the interval is sealed once", async (t) => {
  const { it, jobs } = await sealing(t);
  await it.eventLog.ensureTopics([{ topic: "readings.bangkok", partitions: it.partitionsPerRegion }]);
  const run = (fault: string): ChildProcess => {
    const child = fork(PROGRAM, [it.url, String(it.partitionsPerRegion), fault, jobs.url, jobs.namespace]);
    t.after(() => child.kill("SIGKILL"));
    return child;
  };
  for (const [index, point] of ["aggregator.seal.before-commit", "aggregator.seal.after-commit"].entries()) {
    const doomed = run(`${point}:1`);
    const died = once(doomed, "exit", { signal: AbortSignal.timeout(40_000) });
    if (index === 0) await it.submit(METERS.map((meterId) => commissionRecord(meterId)));
    await report(it, index + 1);
    assert.equal((await died)[1], "SIGKILL", "the fault point was passed");
    const survivor = run("");
    await it.untilSealed(index + 1);
    const gone = once(survivor, "exit");
    survivor.kill("SIGTERM");
    await gone;
  }
  await assertSealedOnce(it, 2);
});
