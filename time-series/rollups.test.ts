import assert from "node:assert/strict";
import { after, test } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import { wh } from "../domain/metering/units.ts";
import { SettableClock } from "../service/clock.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import { PostgresTimeSeries } from "./postgres/postgres-time-series.ts";
import { Rollups } from "./rollups.ts";
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

function point(meterId: string, t: number): SeriesPoint {
  return { region: "r", meterId, epoch: 0, seq: t, t, importWh: wh(0), exportWh: wh(0), status: 0 };
}

async function days(meterId: string): Promise<number[]> {
  return (await series.buckets(meterId, 86_400, ALL, 10)).map((bucket) => bucket.count);
}

test("what is written is rolled up soon after the wake", async () => {
  const rollups = new Rollups(
    { retention: KEEP, gatherMs: 20, idleMs: 3_600_000 },
    { timeSeries: series, log, metrics: new Registry(), clock },
  );
  await rollups.start();
  for (const n of [1, 2, 3]) {
    await series.write([point("woken", DAY - n)]);
    rollups.wake();
    await until("the day is right", async () => (await days("woken"))[0] === n);
  }
  await rollups.stop();
});

test("what another process writes is found without a wake, and a backlog is worked off in rounds", async () => {
  await series.write(Array.from({ length: 96 }, (_, i) => point("backlog", DAY - i * 900)));
  const registry = new Registry();
  const rollups = new Rollups(
    { retention: KEEP, idleMs: 50, maxBucketsPerRound: 10 },
    { timeSeries: series, log, metrics: registry, clock },
  );
  await rollups.start();
  await until("the day is right", async () => (await days("backlog"))[0] === 96);
  await rollups.stop();
  const repaired = await registry.getSingleMetric("rollups_repaired_buckets_total")!.get();
  assert.ok(repaired.values[0]!.value >= 96 + 24 + 1);
});

test("rollups go on after the store was away", async () => {
  const target = new URL(url);
  const proxy = new CuttableProxy({ host: target.hostname, port: Number(target.port) });
  target.port = String(await proxy.listen());
  const remote = await PostgresTimeSeries.open({ connectionString: target.href }, { log });
  proxy.cut();
  const registry = new Registry();
  const rollups = new Rollups(
    { retention: KEEP, idleMs: 20, gatherMs: 10 },
    { timeSeries: remote, log, metrics: registry, clock },
  );
  await series.write([point("outage", DAY)]);
  await rollups.start();
  const failures = async () =>
    (await registry.getSingleMetric("rollups_failures_total")!.get()).values.reduce(
      (n, { value }) => n + value,
      0,
    );
  await until("rounds have failed", async () => (await failures()) >= 2);
  proxy.restore();
  await until("the day is right", async () => (await days("outage"))[0] === 1);
  await rollups.stop();
  await remote.close();
  await proxy.close();
});

test("expired readings go, hour after hour, without a restart", async () => {
  const own = new SettableClock(DAY * 1000);
  await series.write([point("expiring", DAY - 50 * DAY_S)]);
  const rollups = new Rollups(
    { retention: KEEP, idleMs: 20, expireEveryMs: 3_600_000 },
    { timeSeries: series, log, metrics: new Registry(), clock: own },
  );
  await rollups.start();
  const readings = async () => (await series.readings("expiring", ALL, 10)).length;
  assert.equal(await readings(), 1);
  own.set((DAY + 60 * DAY_S) * 1000);
  await until("the reading is gone", async () => (await readings()) === 0);
  assert.deepEqual(await days("expiring"), [1]);
  await rollups.stop();
});

test("a retention that would let late data spoil rollups is refused before anything starts", () => {
  const retention = { ...KEEP, bucketS: { ...KEEP.bucketS, 900: DAY_S } };
  const dependencies = { timeSeries: series, log, metrics: new Registry(), clock };
  assert.throws(() => new Rollups({ retention }, dependencies), { code: "series-retention" });
});
