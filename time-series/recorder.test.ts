import assert from "node:assert/strict";
import { after, test, type TestContext } from "node:test";
import { pino } from "pino";
import { Registry } from "prom-client";
import { encodeReadings } from "../domain/metering/codec.ts";
import type { Reading } from "../domain/metering/reading.ts";
import { wh } from "../domain/metering/units.ts";
import type { NewRecord } from "../event-log/event-log.ts";
import { PostgresEventLog } from "../event-log/postgres/postgres-event-log.ts";
import { DEAD_LETTER_TOPIC, INGEST_HEADERS, regionTopic } from "../event-log/topics.ts";
import { rewind, storedOffsets, takeOver } from "../ledger/consumer-offsets.ts";
import { openPool } from "../service/database.ts";
import { noFaults } from "../service/faults.ts";
import { migrate } from "../service/migrate.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import { PostgresTimeSeries } from "./postgres/postgres-time-series.ts";
import { RECORDER, recorderBalance } from "./recorder-balance.ts";
import { Recorder } from "./recorder.ts";
import { CuttableProxy } from "./tests/cuttable-proxy.ts";
import type { SeriesPoint, TimeSeries } from "./time-series.ts";

const log = pino({ level: "silent" });
const DAY = 20_500 * 86_400;
const ALL = { from: 0, to: 1e11 };
const PARTITIONS = 2;

const url = await createTestDatabase();
const pool = openPool(
  { connectionString: url, applicationName: "test", maxConnections: 4, schema: "ledger" },
  () => {},
);
await migrate(pool, "ledger", new URL("../ledger/migrations/", import.meta.url));
const eventLog = await PostgresEventLog.open({ connectionString: url, leaseMs: 1_000, pollMs: 100 }, { log });
const series = await PostgresTimeSeries.open({ connectionString: url }, { log });
const appender = await eventLog.openAppender();
await eventLog.ensureTopics([{ topic: DEAD_LETTER_TOPIC, partitions: 1 }]);
after(async () => {
  await eventLog.close();
  await series.close();
  await pool.end();
});

/** The series behind a connection that the test can cut. */
async function openRemote(t: TestContext): Promise<{ proxy: CuttableProxy; remote: PostgresTimeSeries }> {
  const target = new URL(url);
  const proxy = new CuttableProxy({ host: target.hostname, port: Number(target.port) });
  target.port = String(await proxy.listen());
  const remote = await PostgresTimeSeries.open({ connectionString: target.href }, { log });
  t.after(async () => {
    await proxy.close();
    await remote.close();
  });
  return { proxy, remote };
}

let regions = 0;
async function newRegion(): Promise<string> {
  regions += 1;
  const region = `region-${regions}`;
  await eventLog.ensureTopics([{ topic: regionTopic(region), partitions: PARTITIONS }]);
  return region;
}

function reading(meterId: string, seq: number, t = DAY + seq): Reading {
  return { meterId, epoch: 0, seq, t, importWh: wh(seq), exportWh: wh(0), status: 0 };
}

function record(region: string, meterId: string, value: Uint8Array, kind = "rd", partition = 0): NewRecord {
  const headers = {
    [INGEST_HEADERS.kind]: kind,
    [INGEST_HEADERS.mqttTopic]: `mt/v1/u/${region}/${meterId}/rd`,
  };
  return { topic: regionTopic(region), partition, key: meterId, headers, value };
}

function readingsRecord(region: string, readings: readonly Reading[], partition = 0): NewRecord {
  return record(region, readings[0]!.meterId, encodeReadings(readings), "rd", partition);
}

interface Parts {
  readonly timeSeries?: TimeSeries;
  readonly registry?: Registry;
  readonly logTo?: (line: string) => void;
  readonly onWritten?: () => void;
}

/** A recorder that stops with the test. */
async function startRecorder(t: TestContext, region: string, parts: Parts = {}): Promise<Recorder> {
  const { timeSeries = series, registry = new Registry(), logTo, onWritten = () => {} } = parts;
  const recorder = new Recorder(
    { regions: [region], firstPauseMs: 20, watchEveryMs: 50 },
    {
      ...{ pool, eventLog, timeSeries, metrics: registry, faults: noFaults, onWritten },
      log: logTo === undefined ? log : pino({ level: "info" }, { write: logTo }),
    },
  );
  t.after(() => recorder.stop());
  await recorder.start();
  return recorder;
}

async function passed(region: string): Promise<bigint> {
  const rows = await storedOffsets(pool, regionTopic(region));
  return rows.reduce((sum, row) => sum + row.nextOffset, 0n);
}

async function recorded(region: string, records: number): Promise<void> {
  await until(`${records} records are recorded`, async () => (await passed(region)) >= BigInt(records));
}

async function outcomes(region: string): Promise<Record<"written" | "rejected" | "otherKinds", number>> {
  const result = await pool.query<{ written: string; rejected: string; other_kinds: string }>(
    `select sum(written) as written, sum(rejected) as rejected, sum(other_kinds) as other_kinds
       from consumer_offset where consumer = $1 and topic = $2`,
    [RECORDER, regionTopic(region)],
  );
  const row = result.rows[0]!;
  return {
    written: Number(row.written),
    rejected: Number(row.rejected),
    otherKinds: Number(row.other_kinds),
  };
}

async function deadLettersOf(key: string) {
  const bounds = await eventLog.bounds({ topic: DEAD_LETTER_TOPIC, partition: 0 });
  const all = await eventLog.read(
    { topic: DEAD_LETTER_TOPIC, partition: 0 },
    bounds.first,
    Number(bounds.next),
  );
  return all.filter((letter) => letter.key === key);
}

async function metric(registry: Registry, name: string): Promise<number> {
  const found = await registry.getSingleMetric(name)?.get();
  return found?.values.reduce((sum, { value }) => sum + value, 0) ?? 0;
}

/** The real store, with a count of its writes. */
function counted(on: TimeSeries): { timeSeries: TimeSeries; writes: readonly number[] } {
  const writes: number[] = [];
  const timeSeries = new Proxy(on, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      if (property !== "write") return value.bind(target) as unknown;
      return (points: readonly SeriesPoint[]) => {
        writes.push(points.length);
        return target.write(points);
      };
    },
  });
  return { timeSeries, writes };
}

test("every reading of the log is in the series, and each record is counted once by what it was", async (t) => {
  const region = await newRegion();
  const records = [
    readingsRecord(region, [reading("a", 1), reading("a", 2), reading("a", 3)]),
    readingsRecord(region, [reading("b", 1)], 1),
    record(region, "a", new TextEncoder().encode("{"), "rd"),
    record(region, "a", new TextEncoder().encode("{}"), "birth"),
    record(region, "b", new TextEncoder().encode("{}"), "meter", 1),
    readingsRecord(region, [reading("a", 3)]),
  ].map((one) => ({ ...one, key: `${region}-${one.key}` }));
  await appender.append(records);
  await startRecorder(t, region);
  await recorded(region, records.length);
  assert.equal(await series.countReadings(region), 4n);
  assert.deepEqual(await outcomes(region), { written: 3, rejected: 1, otherKinds: 2 });
  assert.deepEqual(await recorderBalance(pool), []);
  const [letter, ...more] = await deadLettersOf(`${region}-a`);
  assert.deepEqual(more, []);
  assert.equal(letter?.headers[INGEST_HEADERS.reason], "malformed-json");
  assert.equal(new TextDecoder().decode(letter?.value), "{");
});

test("many records of many partitions go into one write, and the rollups are woken", async (t) => {
  const region = await newRegion();
  const records = Array.from({ length: 2000 }, (_, i) =>
    readingsRecord(region, [reading(`${region}-${i % 50}`, i)], i % PARTITIONS),
  );
  await appender.append(records);
  const { timeSeries, writes } = counted(series);
  let woken = 0;
  await startRecorder(t, region, { timeSeries, onWritten: () => (woken += 1) });
  await recorded(region, records.length);
  assert.ok(writes.length <= 4, `${writes.length} writes for 2000 records`);
  assert.equal(woken, writes.length);
  assert.equal(await series.countReadings(region), 2000n);
});

test("readings that the series refuses become dead letters with their bytes before the offset moves", async (t) => {
  const region = await newRegion();
  const elsewhere = `${region}-settled`;
  await series.write([{ region: "elsewhere", ...reading(elsewhere, 1) }]);
  const refused = readingsRecord(region, [reading(elsewhere, 2), reading(elsewhere, 3)]);
  await appender.append([refused, readingsRecord(region, [reading(`${region}-m`, 1)])]);
  await startRecorder(t, region);
  await recorded(region, 2);
  const [letter, ...more] = await deadLettersOf(elsewhere);
  assert.deepEqual(more, []);
  assert.equal(letter?.headers[INGEST_HEADERS.reason], "series-refused");
  assert.equal(letter?.headers[INGEST_HEADERS.detail], "region-changed");
  assert.equal(letter?.headers[INGEST_HEADERS.client], elsewhere);
  assert.deepEqual(new Uint8Array(letter.value), new Uint8Array(refused.value));
  assert.deepEqual(await outcomes(region), { written: 1, rejected: 1, otherKinds: 0 });
});

test("while the series is away the offset stays, the lag shows, and nothing is lost when it returns", async (t) => {
  const region = await newRegion();
  const { proxy, remote } = await openRemote(t);
  const registry = new Registry();
  await startRecorder(t, region, { timeSeries: remote, registry });
  await appender.append([readingsRecord(region, [reading(`${region}-m`, 1)])]);
  await recorded(region, 1);

  proxy.cut();
  const more = Array.from({ length: 300 }, (_, i) => readingsRecord(region, [reading(`${region}-m`, 2 + i)]));
  await appender.append(more);
  await until("writes have failed", async () => (await metric(registry, "recorder_failures_total")) >= 3);
  await until("the lag shows", async () => (await metric(registry, "recorder_lag_records")) === 300);
  assert.equal(await passed(region), 1n);

  proxy.restore();
  await recorded(region, 301);
  assert.equal(await series.countReadings(region), 301n);
  await until("the lag is gone", async () => (await metric(registry, "recorder_lag_records")) === 0);
  assert.deepEqual(await recorderBalance(pool), []);
});

test("a recorder stops while its store is away, and the next one goes on", async (t) => {
  const region = await newRegion();
  const { proxy, remote } = await openRemote(t);
  const registry = new Registry();
  proxy.cut();
  const recorder = await startRecorder(t, region, { timeSeries: remote, registry });
  await appender.append([readingsRecord(region, [reading(`${region}-m`, 1)])]);
  await until("a write has failed", async () => (await metric(registry, "recorder_failures_total")) > 0);
  await recorder.stop();
  assert.equal(await passed(region), 0n);

  await startRecorder(t, region);
  await recorded(region, 1);
  assert.equal(await series.countReadings(region), 1n);
});

test("a recorder whose partition was taken over discards its claim, and no record is counted twice", async (t) => {
  const region = await newRegion();
  await startRecorder(t, region);
  await appender.append([readingsRecord(region, [reading(`${region}-m`, 1)])]);
  await recorded(region, 1);
  await takeOver(pool, RECORDER, { topic: regionTopic(region), partition: 0 });
  await appender.append([readingsRecord(region, [reading(`${region}-m`, 2)])]);
  await recorded(region, 2);
  assert.deepEqual(await outcomes(region), { written: 2, rejected: 0, otherKinds: 0 });
  const fence = await pool.query<{ fence: bigint }>(
    "select fence from consumer_offset where consumer = $1 and topic = $2 and partition = 0",
    [RECORDER, regionTopic(region)],
  );
  assert.equal(fence.rows[0]?.fence, 3n);
});

test("a recorder that is sent back writes what the log still holds once more, and its account stays exact", async (t) => {
  const region = await newRegion();
  const first = await startRecorder(t, region);
  for (let seq = 1; seq <= 4; seq += 1) {
    await appender.append([readingsRecord(region, [reading(`${region}-m`, seq)])]);
  }
  await recorded(region, 4);
  await first.stop();
  await eventLog.trim({ topic: regionTopic(region), partition: 0 }, 2n);
  const wiped = await PostgresTimeSeries.open({ connectionString: await createTestDatabase() }, { log });
  t.after(() => wiped.close());

  assert.equal(await rewind(pool, RECORDER, regionTopic(region)), PARTITIONS);
  await startRecorder(t, region, { timeSeries: wiped });
  await recorded(region, 4);
  assert.equal(await wiped.countReadings(region), 2n);
  assert.deepEqual(await outcomes(region), { written: 2, rejected: 0, otherKinds: 0 });
  assert.deepEqual(await recorderBalance(pool), []);
});

test("a recorder at work that is sent back begins anew with its next record", async (t) => {
  const region = await newRegion();
  const { timeSeries, writes } = counted(series);
  await startRecorder(t, region, { timeSeries });
  for (let seq = 1; seq <= 3; seq += 1) {
    await appender.append([readingsRecord(region, [reading(`${region}-m`, seq)])]);
    await recorded(region, seq);
  }
  await rewind(pool, RECORDER, regionTopic(region));
  await appender.append([readingsRecord(region, [reading(`${region}-m`, 4)])]);
  await recorded(region, 4);
  assert.deepEqual(await outcomes(region), { written: 4, rejected: 0, otherKinds: 0 });
  assert.ok(writes.reduce((sum, points) => sum + points) >= 8, "all four readings were written once more");
  assert.equal(await series.countReadings(region), 4n);
});

test("a recorder whose position is another log's halts and says so, until it is sent back", async (t) => {
  const region = await newRegion();
  const registry = new Registry();
  await appender.append([readingsRecord(region, [reading(`${region}-m`, 1)])]);
  const first = await startRecorder(t, region);
  await recorded(region, 1);
  await first.stop();
  await pool.query("update consumer_offset set mark = $2 where topic = $1 and mark is not null", [
    regionTopic(region),
    "00000000-0000-0000-0000-000000000000/1/1",
  ]);
  const second = await startRecorder(t, region, { registry });
  const halted = () => metric(registry, "recorder_halted_partitions");
  await until("the partition has halted", async () => (await halted()) === 1);
  await second.stop();
  assert.equal(await halted(), 0, "it holds no partition any more");

  await rewind(pool, RECORDER, regionTopic(region));
  await startRecorder(t, region);
  await recorded(region, 1);
  assert.deepEqual(await recorderBalance(pool), []);
});

test("a record that is not accounted for raises one alarm", async (t) => {
  const region = await newRegion();
  const registry = new Registry();
  const lines: string[] = [];
  await startRecorder(t, region, { registry, logTo: (line) => lines.push(line) });
  await appender.append([readingsRecord(region, [reading(`${region}-m`, 1)])]);
  await recorded(region, 1);
  await pool.query("update consumer_offset set written = written - 1 where topic = $1 and partition = 0", [
    regionTopic(region),
  ]);
  const unbalanced = () => metric(registry, "recorder_unbalanced_partitions");
  await until("the gap is seen", async () => (await unbalanced()) === 1);
  assert.deepEqual(await recorderBalance(pool), [
    {
      topic: regionTopic(region),
      partition: 0,
      nextOffset: 1n,
      beganAt: 0n,
      written: 0n,
      rejected: 0n,
      otherKinds: 0n,
    },
  ]);
  await pool.query("update consumer_offset set written = written + 1 where topic = $1 and partition = 0", [
    regionTopic(region),
  ]);
  await until("the gap is gone", async () => (await unbalanced()) === 0);
  assert.equal(lines.filter((line) => line.includes("records are not accounted for")).length, 1);
  assert.equal(lines.filter((line) => line.includes("accounted for again")).length, 1);
});

test("a slice's readings are read back as sent", async (t) => {
  const region = await newRegion();
  const meterId = `${region}-m`;
  const full: Reading = {
    ...reading(meterId, 7),
    powerW: -5,
    voltageDv: 2301,
    frequencyMhz: 50_001,
    status: 3,
  };
  await appender.append([readingsRecord(region, [{ ...full, unknown: { firmware: "1.2" } }])]);
  await startRecorder(t, region);
  await recorded(region, 1);
  assert.deepEqual(await series.readings(meterId, ALL, 10), [{ region, ...full }]);
});
