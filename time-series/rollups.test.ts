import assert from "node:assert/strict";
import { after, test, type TestContext } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import { wh } from "../domain/metering/units.ts";
import { SettableClock } from "../service/clock.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import { PostgresTimeSeries } from "./postgres/postgres-time-series.ts";
import { Rollups, type RollupsDependencies, type RollupsOptions } from "./rollups.ts";
import { CuttableProxy } from "./tests/cuttable-proxy.ts";
import type { SeriesPoint, SeriesRetention } from "./time-series.ts";

const log = pino({ level: "silent" });
const DAY_S = 86_400;
const DAY = 20_500 * DAY_S;
const ALL = { from: 0, to: 1e11 };
const KEEP: SeriesRetention = {
  rawS: 100 * DAY_S,
  bucketS: { 900: 1000 * DAY_S, 3600: 1000 * DAY_S, 86400: 1000 * DAY_S },
};

const url = await createTestDatabase();
const series = await PostgresTimeSeries.open({ connectionString: url }, { log });
after(() => series.close());
const clock = new SettableClock(DAY * 1000);

/** Rollups that stop with the test. */
async function startRollups(
  t: TestContext,
  options: Partial<RollupsOptions>,
  dependencies: Partial<RollupsDependencies> = {},
): Promise<Rollups> {
  const rollups = new Rollups(
    { retention: KEEP, ...options },
    { timeSeries: series, log, metrics: new Registry(), clock, ...dependencies },
  );
  t.after(() => rollups.stop());
  await rollups.start();
  return rollups;
}

function point(meterId: string, t: number): SeriesPoint {
  return { region: "r", meterId, epoch: 0, seq: t, t, importWh: wh(0), exportWh: wh(0), status: 0 };
}

async function total(metrics: Registry, name: string): Promise<number> {
  const found = await metrics.getSingleMetric(name)?.get();
  return found?.values.reduce((sum, { value }) => sum + value, 0) ?? 0;
}

async function days(meterId: string): Promise<number[]> {
  return (await series.buckets(meterId, 86_400, ALL, 10)).map((bucket) => bucket.count);
}

test("what is written is rolled up soon after the wake", async (t) => {
  const rollups = await startRollups(t, { gatherMs: 20, idleMs: 3_600_000 });
  for (const n of [1, 2, 3]) {
    await series.write([point("woken", DAY - n)]);
    rollups.wake();
    await until("the day is right", async () => (await days("woken"))[0] === n);
  }
});

test("what another process writes is found without a wake, and a backlog is worked off in rounds", async (t) => {
  await series.write(Array.from({ length: 96 }, (_, i) => point("backlog", DAY - i * 900)));
  const metrics = new Registry();
  await startRollups(t, { idleMs: 50, maxBucketsPerRound: 10 }, { metrics });
  await until("the day is right", async () => (await days("backlog"))[0] === 96);
  assert.ok((await total(metrics, "rollups_repaired_buckets_total")) >= 96 + 24);
});

test("rollups go on after the store was away", async (t) => {
  const target = new URL(url);
  const proxy = new CuttableProxy({ host: target.hostname, port: Number(target.port) });
  target.port = String(await proxy.listen());
  const remote = await PostgresTimeSeries.open({ connectionString: target.href }, { log });
  proxy.cut();
  const metrics = new Registry();
  await series.write([point("outage", DAY)]);
  await startRollups(t, { idleMs: 20, gatherMs: 10 }, { timeSeries: remote, metrics });
  t.after(async () => {
    await proxy.close();
    await remote.close();
  });
  await until("rounds have failed", async () => (await total(metrics, "rollups_failures_total")) >= 2);
  proxy.restore();
  await until("the day is right", async () => (await days("outage"))[0] === 1);
});

test("expired readings go, hour after hour, without a restart", async (t) => {
  const own = new SettableClock(DAY * 1000);
  await series.write([point("expiring", DAY - 50 * DAY_S)]);
  await startRollups(t, { idleMs: 20, expireEveryMs: 3_600_000 }, { clock: own });
  const readings = async () => (await series.readings("expiring", ALL, 10)).length;
  assert.equal(await readings(), 1);
  await until("the day is right", async () => (await days("expiring"))[0] === 1);
  own.set((DAY + 60 * DAY_S) * 1000);
  await until("the reading is gone", async () => (await readings()) === 0);
  assert.deepEqual(await days("expiring"), [1]);
});

test("a retention that would let late data spoil rollups is refused before anything starts", () => {
  const retention = { ...KEEP, bucketS: { ...KEEP.bucketS, 900: DAY_S } };
  const dependencies = { timeSeries: series, log, metrics: new Registry(), clock };
  assert.throws(() => new Rollups({ retention }, dependencies), { code: "series-retention" });
});
