import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import { startPostgres } from "../deploy/stack/postgres.ts";
import type { Batch } from "../domain/settlement/batch.ts";
import { SettableClock } from "../service/clock.ts";
import { openPool, type Pool } from "../service/database.ts";
import { migrate } from "../service/migrate.ts";
import { ReplicaReads } from "../service/replica-reads.ts";
import { seedBatch, seedMeter, seedRegion } from "../tests/support/seeded-ledger.ts";
import { until } from "../tests/support/until.ts";
import type { TimeSeries } from "../time-series/time-series.ts";
import { Api } from "./api.ts";

const LAG_MAX_MS = 1_500;
const PENDING = `/api/v1/authorities/0x${"a1".repeat(20)}/pending?authoritySetEpoch=1`;
const log = pino({ level: process.env["TEST_LOG_LEVEL"] ?? "silent" });
const metrics = new Registry();
/** The routes under test read the ledger only. */
const timeSeries = { completeness: async () => [] } as unknown as TimeSeries;

type Server = Awaited<ReturnType<typeof startPostgres>>;
let folder: string;
let primary: Server;
let replica: Server;
let pool: Pool;
let reads: ReplicaReads;
let api: Api;
let last: Batch;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "gridroot-replica-"));
  primary = await startPostgres({ dataDir: join(folder, "primary") });
  pool = open(primary.url);
  await migrate(pool, "ledger", new URL("../ledger/migrations/", import.meta.url));
  await seedRegion(pool, 1, "bangkok");
  last = await seedBatch(pool, undefined, { region: 1, interval: 900, meters: [1], scale: 1n });
  replica = await startPostgres({ dataDir: join(folder, "replica"), replicaOf: primary.url });
  reads = new ReplicaReads(
    { lagMaxMs: LAG_MAX_MS },
    { primary: pool, replica: open(replica.url), log, metrics },
  );
  await reads.start();
  api = new Api(
    { port: 0 },
    {
      ...{ pool, reads, timeSeries, log, metrics, clock: new SettableClock(1_800_000_000_000) },
      readiness: async () => ({}),
      metricsText: () => metrics.metrics(),
    },
  );
  await api.start();
});

after(async () => {
  await api?.stop();
  await reads?.stop();
  await pool?.end();
  await replica?.stop();
  await primary?.stop();
  await rm(folder, { recursive: true, force: true });
});

function open(url: string): Pool {
  return openPool(
    {
      connectionString: url,
      applicationName: "test",
      maxConnections: 4,
      schema: "ledger",
      acquireTimeoutMs: 1_000,
    },
    () => {},
  );
}

/** The parts of the answers that tests look at. */
interface Body {
  readonly interval: number;
  readonly items: readonly { readonly interval: number }[];
}

async function get(path: string): Promise<{ status: number; body: Body }> {
  const response = await fetch(`${api.url}${path}`);
  return { status: response.status, body: (await response.json()) as Body };
}

async function readsBy(source: string): Promise<number> {
  const { values } = await metrics.getSingleMetric("api_replica_reads_total")!.get();
  return values.find(({ labels }) => labels["source"] === source)?.value ?? 0;
}

/** What answered the statements of a request. */
async function answeredBy(path: string): Promise<readonly string[]> {
  const sources = ["replica", "primary"];
  const counts = () => Promise.all(sources.map(readsBy));
  const before = await counts();
  assert.equal((await get(path)).status, 200);
  const now = await counts();
  return sources.filter((_, i) => now[i]! > before[i]!);
}

const used = () => until("the replica is used", () => reads.state.used, 20_000);

/** Stops the replica from replaying what it receives, until `work` is done. */
async function withoutReplay(work: () => Promise<void>): Promise<void> {
  const admin = open(replica.url);
  try {
    await admin.query("select pg_wal_replay_pause()");
    await work();
  } finally {
    await admin.query("select pg_wal_replay_resume()").catch(() => {});
    await admin.end();
  }
}

async function sealNext(): Promise<number> {
  const interval = last.content.interval + 900;
  last = await seedBatch(pool, last.evidence, { region: 1, interval, meters: [1], scale: BigInt(interval) });
  return interval;
}

test("requests read from the replica, authorities' pending batches from the primary", async () => {
  await used();
  for (const path of [
    "/api/v1/regions",
    "/api/v1/batches",
    "/api/v1/batches/bangkok/900",
    "/api/v1/quarantine",
  ])
    assert.deepEqual(await answeredBy(path), ["replica"], path);
  assert.deepEqual(await answeredBy(PENDING), []);
});

test("an idle primary makes no lag", async () => {
  await used();
  const idleUntil = performance.now() + 2 * LAG_MAX_MS;
  await until("the primary has been idle for long", () => {
    assert.equal(reads.state.used, true);
    return performance.now() > idleUntil;
  });
});

test("what the replica lacks yet is found on the primary, and lists show it a little later", async () => {
  await used();
  await withoutReplay(async () => {
    const interval = await sealNext();
    await seedMeter(pool, 1, interval, 1);
    const listed = await get("/api/v1/batches");
    assert.notEqual(listed.body.items[0]?.interval, interval);
    assert.equal((await get(`/api/v1/batches/bangkok/${interval}`)).body.interval, interval);
    assert.equal((await fetch(`${api.url}/api/v1/batches/bangkok/${interval}/evidence`)).status, 200);
    assert.equal((await get(`/api/v1/meters/meter-${interval}`)).status, 200);
    const pending = await fetch(`${api.url}${PENDING}`);
    assert.equal(((await pending.json()) as Body[]).at(-1)?.interval, interval);
  });
});

test("a replica that lags is shown and left alone until it has caught up", async () => {
  await used();
  await withoutReplay(async () => {
    const interval = await sealNext();
    await until("the lag is above the limit", () => !reads.state.used, 10_000);
    const { lagMs = 0, answers } = reads.state;
    assert.equal(answers, true);
    assert.ok(lagMs > LAG_MAX_MS);
    assert.match(await metrics.metrics(), /^api_replica_lag_seconds (1\.[5-9]|[2-9])/m);
    assert.deepEqual(await answeredBy("/api/v1/batches"), ["primary"]);
    assert.equal((await get("/api/v1/batches")).body.items[0]?.interval, interval);
  });
  await used();
  assert.deepEqual(await answeredBy("/api/v1/batches"), ["replica"]);
});

test("a replica that is killed under load fails no request, and is used again once it is back", async () => {
  await used();
  const stop = new AbortController();
  let requests = 0;
  const load = Array.from({ length: 4 }, async () => {
    while (!stop.signal.aborted) {
      assert.equal((await get("/api/v1/batches/bangkok/900")).status, 200);
      requests += 1;
    }
  });
  const served = (count: number) => until(`${count} requests are served`, () => requests > count, 10_000);
  await served(requests + 50);
  await replica.kill();
  await served(requests + 200);
  await until("the replica is given up", () => !reads.state.used);
  assert.notEqual((await metrics.getSingleMetric("api_replica_failures_total")!.get()).values[0]?.value, 0);
  await replica.start();
  await used();
  await served(requests + 50);
  stop.abort();
  await Promise.all(load);
  assert.deepEqual(await answeredBy("/api/v1/batches"), ["replica"]);
});

test("a replica that hangs holds a request no longer than its limit, and later ones not at all", async () => {
  await used();
  const replicaOfAnyAge = new ReplicaReads(
    { lagMaxMs: 3_600_000 },
    { primary: pool, replica: open(replica.url), log, metrics: new Registry() },
  );
  await replicaOfAnyAge.start();
  await until("it is used as well", () => replicaOfAnyAge.state.used);
  replica.pause();
  try {
    const began = performance.now();
    assert.equal((await get("/api/v1/batches")).status, 200);
    assert.ok(performance.now() - began < 7_000);
    await until("the replica is given up", () => !reads.state.used);
    assert.deepEqual(await answeredBy("/api/v1/batches"), ["primary"]);
    await until("it is given up however old it may be", () => !replicaOfAnyAge.state.used);
  } finally {
    replica.resume();
    await replicaOfAnyAge.stop();
  }
  await used();
});

test("a server that replays nobody's log, or another's, is never read from", async () => {
  const other = await startPostgres({ dataDir: join(folder, "other") });
  const copy = await startPostgres({ dataDir: join(folder, "copy"), replicaOf: other.url });
  try {
    for (const [url, reason] of [
      [primary.url, /is no replica/],
      [copy.url, /of another server/],
    ] as const) {
      const wrong = new ReplicaReads(
        { lagMaxMs: 3_600_000 },
        { primary: pool, replica: open(url), log, metrics: new Registry() },
      );
      await wrong.start();
      const { used: isUsed, reason: found } = wrong.state;
      await wrong.stop();
      assert.equal(isUsed, false);
      assert.match(found ?? "", reason);
    }
  } finally {
    await copy.stop();
    await other.stop();
  }
});
