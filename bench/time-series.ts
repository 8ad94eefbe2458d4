// The time series: points written a second, buckets repaired a second, what counting costs, and readings a second from
// the log into the series. On PostgreSQL, or with `--backend influxdb` on InfluxDB, whose marks and log are PostgreSQL's.
// Servers of its own, durable as in production.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pino from "pino";
import { Registry } from "prom-client";
import { startInflux } from "../deploy/stack/influxdb.ts";
import { encodeReadings } from "../domain/metering/codec.ts";
import { wh } from "../domain/metering/units.ts";
import { PostgresEventLog } from "../event-log/postgres/postgres-event-log.ts";
import { INGEST_HEADERS, regionTopic } from "../event-log/topics.ts";
import { storedOffsets } from "../ledger/consumer-offsets.ts";
import { openPool } from "../service/database.ts";
import { noFaults } from "../service/faults.ts";
import { migrate } from "../service/migrate.ts";
import { startPostgres } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import { InfluxTimeSeries } from "../time-series/influxdb/influx-time-series.ts";
import { PostgresTimeSeries } from "../time-series/postgres/postgres-time-series.ts";
import { Recorder } from "../time-series/recorder.ts";
import type { SeriesPoint, TimeSeries } from "../time-series/time-series.ts";

const BATCH = 5_000;
const START = 20_500 * 86_400;
const LATE = 10_000;
const RECORDS = 100_000;

const { values: flags } = parseArgs({
  allowPositionals: true,
  options: {
    backend: { type: "string", default: "postgres" },
    meters: { type: "string", default: "50000" },
  },
});
const METERS = Number(flags.meters);

/** Points of one sweep over all meters, `sweep` minutes into the day. */
function sweepOf(sweep: number): SeriesPoint[] {
  return Array.from({ length: METERS }, (_, i) => ({
    region: `region-${i % 7}`,
    meterId: `meter-${i}`,
    epoch: 0,
    seq: sweep,
    t: START + sweep * 60 + (i % 60) + 1,
    importWh: wh(sweep * 10),
    exportWh: wh(0),
    powerW: (i * 7919 + sweep) % 5000,
    status: 0,
  }));
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

async function writeSweeps(series: TimeSeries, from: number, to: number): Promise<void> {
  for (let sweep = from; sweep < to; sweep++) {
    const points = sweepOf(sweep);
    for (let i = 0; i < METERS; i += BATCH) await series.write(points.slice(i, i + BATCH));
  }
}

async function repairAll(series: TimeSeries): Promise<number> {
  for (let total = 0; ;) {
    const done = await series.repair(2_000);
    if (done === 0) return total;
    total += done;
  }
}

async function record(url: string, series: TimeSeries): Promise<number> {
  const log = pino({ level: "silent" });
  const pool = openPool(
    { connectionString: url, applicationName: "bench", maxConnections: 2, schema: "ledger" },
    () => {},
  );
  await migrate(pool, "ledger", new URL("../ledger/migrations/", import.meta.url));
  const eventLog = await PostgresEventLog.open({ connectionString: url }, { log });
  const topic = regionTopic("bench");
  await eventLog.ensureTopics([{ topic, partitions: 4 }]);
  const appender = await eventLog.openAppender();
  const headers = { [INGEST_HEADERS.kind]: "rd" };
  for (let from = 0; from < RECORDS; from += 1_000) {
    const records = Array.from({ length: 1_000 }, (_, k) => {
      const [meterId, seq] = [`bench-${(from + k) % 5_000}`, from + k];
      const reading = { meterId, epoch: 0, seq, t: START + 1 + (seq % 86_400), importWh: wh(seq) };
      const value = encodeReadings([{ ...reading, exportWh: wh(0), powerW: seq % 5_000, status: 0 }]);
      return { topic, partition: seq % 4, key: meterId, headers, value };
    });
    await appender.append(records);
  }
  const recorder = new Recorder(
    { regions: ["bench"] },
    { pool, eventLog, timeSeries: series, log, metrics: new Registry(), faults: noFaults },
  );
  const seconds = await secondsOf(async () => {
    await recorder.start();
    const passed = async () =>
      (await storedOffsets(pool, topic)).reduce((sum, { nextOffset }) => sum + nextOffset, 0n);
    await until("all is recorded", async () => (await passed()) === BigInt(RECORDS), 120_000);
  });
  await recorder.stop();
  await eventLog.close();
  await pool.end();
  return seconds;
}

/** The series on the backend asked for, and how to end what belongs to it alone. */
async function openSeries(
  backend: string,
  postgresUrl: string,
): Promise<{ series: TimeSeries; end: () => Promise<void> }> {
  const log = pino({ level: "silent" });
  if (backend === "postgres") {
    const series = await PostgresTimeSeries.open({ connectionString: postgresUrl }, { log });
    return { series, end: () => series.close() };
  }
  if (backend !== "influxdb") throw new Error(`--backend is postgres or influxdb, not ${backend}`);
  const folder = await mkdtemp(join(tmpdir(), "gridroot-bench-influxdb-"));
  const influx = await startInflux({ dataDir: folder });
  const series = await InfluxTimeSeries.open(
    { url: influx.url, org: influx.org, token: influx.token, namespace: "bench", marksUrl: postgresUrl },
    { log },
  );
  const end = async () => {
    await series.close();
    await influx.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { series, end };
}

function say(name: string, value: number): void {
  process.stdout.write(`${name.padEnd(50)} ${value.toFixed(value < 100 ? 1 : 0)}\n`);
}

async function measure(series: TimeSeries, postgresUrl: string): Promise<void> {
  const first = await secondsOf(() => writeSweeps(series, 0, 10));
  say("points written a second, one writer", (10 * METERS) / first);
  const both = await secondsOf(() => Promise.all([writeSweeps(series, 10, 15), writeSweeps(series, 15, 20)]));
  say("points written a second, two writers", (10 * METERS) / both);
  let repaired = 0;
  const repairing = await secondsOf(async () => (repaired = await repairAll(series)));
  say("buckets repaired a second", repaired / repairing);
  const late = sweepOf(0)
    .slice(0, LATE)
    .map((point) => ({ ...point, seq: 1_000_000 }));
  const lateS = await secondsOf(async () => {
    await series.write(late);
    await repairAll(series);
  });
  say(`seconds until ${late.length} late readings are rolled up`, lateS);
  let counted = 0n;
  const counting = await secondsOf(async () => (counted = await series.countReadings("region-1")));
  say("readings of a region counted a second", Number(counted) / counting);
  say("readings recorded a second, log to series", RECORDS / (await record(postgresUrl, series)));
}

const server = await startPostgres([]);
try {
  const { series, end } = await openSeries(flags.backend, server.url);
  try {
    await measure(series, server.url);
  } finally {
    await end();
  }
} finally {
  await server.stop();
}
