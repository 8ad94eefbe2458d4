import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import { startPgBouncer } from "../../deploy/stack/pgbouncer.ts";
import { wh } from "../../domain/metering/units.ts";
import { SettableClock, systemClock } from "../../service/clock.ts";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { timeSeriesContract } from "../contract-suite.ts";
import { ALL, DAY, bucketOf, countsOf, influxOfStack, pointOf, settle } from "../tests/influx-fixture.ts";
import {
  InfluxTimeSeries,
  deleteInfluxNamespace,
  type InfluxTimeSeriesOptions,
} from "./influx-time-series.ts";

const DAY_S = 86_400;
const log = pino({ level: "silent" });

// The marks lie behind PgBouncer in transaction mode, as they may in production.
const folder = await mkdtemp(join(tmpdir(), "gridroot-influx-"));
const direct = await createTestDatabase();
const pooler = await startPgBouncer({ dataDir: folder, target: direct });
const suite = { ...influxOfStack(), marksUrl: pooler.url };
const own = { ...influxOfStack(), marksUrl: await createTestDatabase() };
const series = await InfluxTimeSeries.open(own, { log });
after(async () => {
  await series.close();
  await deleteInfluxNamespace(suite);
  await deleteInfluxNamespace(own);
  await pooler.stop();
  await rm(folder, { recursive: true, force: true });
});

timeSeriesContract("InfluxDB, marks behind PgBouncer", () => InfluxTimeSeries.open(suite, { log }));

test("a meter keeps the region it was first written with", async () => {
  await series.write([pointOf("settled", DAY + 900)]);
  const moved = pointOf("settled", DAY + 1800, { region: "elsewhere" });
  assert.deepEqual(await series.write([moved]), [{ point: moved, reason: "region-changed" }]);
});

test("a redelivered reading raises no version", async () => {
  const late = pointOf("again", DAY + 900);
  await series.write([late]);
  await settle(series);
  await series.write([late]);
  await settle(series);
  for (const resolutionS of [900, 3600, 86_400] as const)
    assert.deepEqual(
      (await series.buckets("again", resolutionS, ALL, 10)).map(({ count, version }) => [count, version]),
      [[1, 1]],
    );
});

test("readings that would be one point to InfluxDB never merge: the second is refused, also later", async () => {
  const at = (seq: number) => pointOf("collides", DAY + 5, { seq, importWh: wh(seq) });
  const [small, lap, wide, other, third] = [7, 1e9 + 7, 20e9 + 7, 5e12 + 7, 9e15 + 7].map(at);
  assert.deepEqual(await series.write([small!, lap!, wide!, other!]), [
    { point: other, reason: "seq-collision" },
  ]);
  assert.deepEqual(await series.write([wide!, third!]), [{ point: third, reason: "seq-collision" }]);
  assert.deepEqual(await series.readings("collides", ALL, 10), [small, lap, wide]);
  await settle(series);
  const [bucket] = await series.buckets("collides", 900, ALL, 10);
  assert.deepEqual([bucket?.count, bucket?.firstImportWh, bucket?.lastImportWh], [3, 7n, 20_000_000_007n]);
  assert.equal(await series.countReadings("region-of-collides"), 3n);
});

test("a write without an optional field takes away the one that was there", async () => {
  const full = pointOf("fields", DAY + 5, { powerW: 1, voltageDv: 2, frequencyMhz: 3 });
  const bare = pointOf("fields", DAY + 5);
  await series.write([full]);
  await series.write([bare]);
  await settle(series);
  assert.deepEqual(await series.readings("fields", ALL, 10), [bare]);
  assert.ok(!("meanPowerW" in (await series.buckets("fields", 900, ALL, 10))[0]!));
});

test("a limit within one second keeps the first by epoch and seq, epochs as numbers", async () => {
  const points = [0, 2, 10].flatMap((epoch) =>
    [1, 3_000_000_000].map((seq) => pointOf("second", DAY + 5, { epoch, seq })),
  );
  await series.write(points.toReversed());
  for (const limit of [1, 2, 3, 5, 6])
    assert.deepEqual(await series.readings("second", ALL, limit), points.slice(0, limit));
});

test("epochs beyond what tags may number are refused", async () => {
  const wild = pointOf("wild", DAY + 5, { epoch: 256 });
  assert.deepEqual(await series.write([wild]), [{ point: wild, reason: "out-of-range" }]);
});

test("a name that speaks Flux is a name that nobody has", async () => {
  await series.write([pointOf("quoted", DAY + 5)]);
  for (const name of ['x" or r.meter == "quoted', 'quoted") |> drop()', "${1}", "\\", "a\nb", ".*", ""]) {
    assert.deepEqual(await series.readings(name, ALL, 10), []);
    assert.deepEqual(await series.completeness(name, ALL), []);
    assert.equal(await series.countReadings(name), 0n);
  }
});

test("an open bucket is computed once for many readings, and at once when it has closed", async () => {
  const clock = new SettableClock((20_000 * DAY_S + 100) * 1000);
  const live = await InfluxTimeSeries.open(own, { log, clock });
  const t = 20_000 * DAY_S + 90;
  await live.write([pointOf("open", t)]);
  assert.equal(await live.repair(10), 0);
  await live.write([pointOf("open", t + 1)]);
  clock.set(clock.nowMs() + 30_000);
  assert.equal(await live.repair(10), 1);
  assert.deepEqual(await countsOf(live, "open"), [[20_000 * DAY_S + 900, 2]]);

  await live.write([pointOf("open", t + 40)]);
  assert.equal(await live.repair(10), 0);
  clock.set((20_000 * DAY_S + 900) * 1000);
  assert.equal(await live.repair(1), 1);
  const [bucket] = await live.buckets("open", 900, ALL, 1);
  assert.deepEqual([bucket?.count, bucket?.version], [3, 2]);
  await live.close();
});

test("a meter that was swapped to another epoch in an interval counts once in its completeness", async () => {
  await series.write([1, 2, 3].map((k) => pointOf("swapped", DAY + k, { epoch: k % 2 })));
  await settle(series);
  assert.deepEqual(await series.completeness("region-of-swapped", ALL), [
    { region: "region-of-swapped", end: DAY + 900, meters: 1, readings: 3 },
  ]);
});

test("what expired is refused by a process that did not expire it; InfluxDB's own retention only follows", async () => {
  const connection = { ...influxOfStack(), marksUrl: await createTestDatabase() };
  const nowS = Math.floor(systemClock.nowMs() / 1000);
  const today = Math.floor(nowS / DAY_S) * DAY_S;
  const keep = {
    rawS: 10 * DAY_S,
    bucketS: { 900: 20 * DAY_S, 3600: 20 * DAY_S, 86_400: 30 * DAY_S },
  };
  const [stale, fresh] = await Promise.all([
    InfluxTimeSeries.open(connection, { log }),
    InfluxTimeSeries.open(connection, { log }),
  ]);
  // The cutoff's own second expires with all its nanoseconds, the next one stays.
  const [last, first] = [
    pointOf("cut", today - 10 * DAY_S, { seq: 999_999_999 }),
    pointOf("cut", today - 10 * DAY_S + 1, { seq: 0 }),
  ];
  await stale.write([last, first]);
  await fresh.expire(keep, today);
  assert.deepEqual(await stale.readings("cut", ALL, 10), [first]);
  assert.deepEqual(await stale.write([last, first]), [{ point: last, reason: "expired" }]);
  assert.deepEqual(await stale.readings("cut", ALL, 10), [first]);

  const rules = async () =>
    await Promise.all(
      ["raw", "15m", "1h", "1d"].map(async (part) => {
        const { retentionRules, updatedAt } = await bucketOf(connection, part);
        return { days: retentionRules[0]!.everySeconds / DAY_S, updatedAt };
      }),
    );
  const set = await rules();
  assert.deepEqual(
    set.map(({ days }) => days),
    [11, 21, 21, 31],
  );
  await stale.expire(keep, nowS);
  assert.deepEqual(await rules(), set);
  // A clock that lies behind the server's keeps what has not expired by it.
  await stale.expire(keep, nowS - 100 * DAY_S);
  assert.deepEqual(
    (await rules()).map(({ days }) => days),
    [111, 121, 121, 131],
  );
  await Promise.all([stale.close(), fresh.close()]);
  await deleteInfluxNamespace(connection);
});

test("series beyond the bound are an alarm, and are measured", async () => {
  const lines: string[] = [];
  const metrics = new Registry();
  const watched = await InfluxTimeSeries.open(
    { ...own, maxSeries: 1 },
    { log: pino({ level: "info" }, { write: (line: string) => lines.push(line) }), metrics },
  );
  await watched.write([pointOf("counted", DAY + 5), pointOf("counted-too", DAY + 5)]);
  await watched.repair(10);
  await watched.repair(10);
  const gauge = await metrics.getSingleMetric("influx_cardinality_series")!.get();
  const raw = gauge.values.find(({ labels }) => labels["part"] === "raw")!;
  assert.ok(raw.value >= 2);
  assert.equal(lines.filter((line) => line.includes("more series than it is sized for")).length, 1);
  await watched.close();
});

test("marks of one namespace are not repaired in another's buckets", async () => {
  const other: InfluxTimeSeriesOptions = { ...own, namespace: influxOfStack().namespace };
  await assert.rejects(InfluxTimeSeries.open(other, { log }), { code: "series-namespace", retryable: false });
});

test("a store that cannot be reached is a retryable error, a wrong token or organisation a lasting one", async () => {
  const open = (options: Partial<InfluxTimeSeriesOptions>) =>
    InfluxTimeSeries.open({ ...own, ...options }, { log });
  await assert.rejects(open({ url: "http://127.0.0.1:1" }), {
    ...{ code: "series-unavailable", retryable: true },
    message: "InfluxDB cannot be reached: ECONNREFUSED",
  });
  await assert.rejects(open({ token: "not-the-token" }), (error: Error & { code: string }) => {
    assert.equal(error.code, "series-denied");
    assert.match(error.message, /^InfluxDB answered 401 \(unauthorized\)/);
    assert.doesNotMatch(error.message, /not-the-token/);
    return true;
  });
  await assert.rejects(open({ org: "nobody" }), { code: "series-missing", retryable: false });
  const marksUrl = new URL(own.marksUrl);
  marksUrl.port = "1";
  await assert.rejects(open({ marksUrl: marksUrl.href }), { code: "series-unavailable", retryable: true });
});
