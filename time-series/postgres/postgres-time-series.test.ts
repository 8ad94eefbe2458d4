import { after, test, type TestContext } from "node:test";
import assert from "node:assert/strict";
import { pino } from "pino";
import { wh } from "../../domain/metering/units.ts";
import { SettableClock, systemClock, type Clock } from "../../service/clock.ts";
import { openPool } from "../../service/database.ts";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { until } from "../../tests/support/until.ts";
import { timeSeriesContract } from "../contract-suite.ts";
import type { SeriesPoint, TimeSeries } from "../time-series.ts";
import { PostgresTimeSeries } from "./postgres-time-series.ts";

const log = pino({ level: "silent" });
const DAY_S = 86_400;
const ALL = { from: 0, to: 1e11 };

function openOn(connectionString: string, clock: Clock = systemClock): Promise<PostgresTimeSeries> {
  return PostgresTimeSeries.open({ connectionString, maxConnections: 3 }, { log, clock });
}

const contractUrl = await createTestDatabase();
timeSeriesContract("PostgreSQL", () => openOn(contractUrl));

const url = await createTestDatabase();
const series = await openOn(url);
const side = openPool(
  { connectionString: url, applicationName: "side", maxConnections: 3, schema: "series" },
  () => {},
);
after(async () => {
  await series.close();
  await side.end();
});

function point(meterId: string, t: number, fields: Partial<SeriesPoint> = {}): SeriesPoint {
  return {
    region: `region-of-${meterId}`,
    meterId,
    epoch: 0,
    seq: t,
    t,
    importWh: wh(t),
    exportWh: wh(0),
    status: 0,
    ...fields,
  };
}

async function settle(on: TimeSeries): Promise<void> {
  for (;;) if ((await on.repair(1000)) === 0) return;
}

async function counts(meterId: string, on: TimeSeries = series): Promise<[number, number][]> {
  return (await on.buckets(meterId, 900, ALL, 100)).map((bucket) => [bucket.end, bucket.count]);
}

/** A transaction of the test's own; the connection is closed with the test. */
async function blocking(t: TestContext, statement: string) {
  const connection = await side.connect();
  t.after(() => connection.release(true));
  await connection.query("begin");
  await connection.query(statement);
  return connection;
}

/** Waits until a statement of this database waits for a lock. */
async function somebodyWaits(): Promise<void> {
  await until("a statement waits for a lock", async () => {
    const waiting = await side.query(
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return waiting.rowCount !== 0;
  });
}

test("a repair does not take the mark of a write that has not committed", async (t) => {
  await series.write([point("in-flight", 900)]);
  // The write locks the mark that is there already, then waits for this one, still without a commit.
  const blocker = await blocking(
    t,
    "insert into dirty select 900, 1800, id, 0, 0 from meter where meter_id = 'in-flight'",
  );
  const writing = series.write([point("in-flight", 899), point("in-flight", 1800)]);
  t.after(() => writing);
  await somebodyWaits();
  assert.equal(await series.repair(10), 0);
  await blocker.query("rollback");
  await writing;
  await settle(series);
  assert.deepEqual(await counts("in-flight"), [
    [900, 2],
    [1800, 1],
  ]);
});

test("a write during a repair of its bucket marks the bucket again", async (t) => {
  await series.write([point("meanwhile", 2700)]);
  // The repair has taken the mark and waits for the counters of the interval.
  const blocker = await blocking(t, "insert into completeness values ('region-of-meanwhile', 2700, 0, 0)");
  const repairing = series.repair(10);
  await somebodyWaits();
  const writing = series.write([point("meanwhile", 2699)]);
  await blocker.query("rollback");
  await Promise.all([repairing, writing]);
  await settle(series);
  assert.deepEqual(await counts("meanwhile"), [[2700, 2]]);
  assert.equal((await side.query("select from dirty")).rowCount, 0);
});

test("an open bucket is computed once for many readings, and at once when it has closed", async () => {
  const clock = new SettableClock((20_000 * DAY_S + 100) * 1000);
  const live = await openOn(url, clock);
  const t = 20_000 * DAY_S + 90;
  await live.write([point("open", t)]);
  assert.equal(await live.repair(10), 0);
  await live.write([point("open", t + 1)]);
  clock.set(clock.nowMs() + 30_000);
  assert.equal(await live.repair(10), 1);
  assert.deepEqual(await counts("open"), [[20_000 * DAY_S + 900, 2]]);

  await live.write([point("open", t + 40)]);
  assert.equal(await live.repair(10), 0);
  clock.set((20_000 * DAY_S + 900) * 1000);
  assert.equal(await live.repair(1), 1);
  const [bucket] = await live.buckets("open", 900, ALL, 1);
  assert.deepEqual([bucket?.count, bucket?.version], [3, 2]);
  await live.close();
});

test("a redelivered reading causes no repair", async () => {
  await series.write([point("again", 900)]);
  await settle(series);
  await series.write([point("again", 900)]);
  assert.equal(await series.repair(10), 0);
});

test("a process that does not know of an expiry refuses what expired and goes on", async () => {
  const clock = new SettableClock(0);
  const own = await createTestDatabase();
  const [stale, fresh] = [await openOn(own, clock), await openOn(own, clock)];
  const old = 1000 * DAY_S;
  await stale.write([point("m", old)]);
  await fresh.expire({ rawS: DAY_S, bucketS: { 900: DAY_S, 3600: DAY_S, 86400: DAY_S } }, old + 10 * DAY_S);
  const [late, now] = [point("m", old - 1), point("m", old + 10 * DAY_S)];
  assert.deepEqual(await stale.write([late, now]), [{ point: late, reason: "expired" }]);
  assert.deepEqual(await stale.readings("m", ALL, 10), [now]);
  await Promise.all([stale.close(), fresh.close()]);
});

test("a meter keeps the region it was first written with", async () => {
  await series.write([point("settled", 900)]);
  const moved = point("settled", 1800, { region: "elsewhere" });
  assert.deepEqual(await series.write([moved]), [{ point: moved, reason: "region-changed" }]);
});

test("a day's partition is made while a transaction still reads the others", async (t) => {
  const partitions = async () =>
    (await side.query("select from pg_inherits where inhparent = 'series.point'::regclass")).rowCount ?? 0;
  const before = await partitions();
  await series.write([point("dropped", 5 * DAY_S + 1)]);
  assert.equal(await partitions(), before + 1);
  await blocking(t, "select count(*) from point");
  // Another day's partition is made while a transaction still reads the table.
  await series.write([point("dropped", 7 * DAY_S)]);
  assert.equal(await partitions(), before + 2);
});

test("a store that cannot be reached is a retryable error", async () => {
  const gone = new URL(url);
  gone.port = "1";
  await assert.rejects(openOn(gone.href), { code: "series-unavailable", retryable: true });
});

test("a statement that takes too long is given up as retryable", async (t) => {
  const impatient = await PostgresTimeSeries.open(
    { connectionString: url, maxConnections: 1, statementTimeoutMs: 300 },
    { log },
  );
  const blocker = await blocking(t, "lock table point in exclusive mode");
  await assert.rejects(impatient.write([point("slow", 900)]), {
    code: "series-unavailable",
    retryable: true,
  });
  await blocker.query("rollback");
  assert.deepEqual(await impatient.write([point("slow", 900)]), []);
  await impatient.close();
});
