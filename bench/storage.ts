// What a reading and a meter take on disk, on servers of the measurement's own: the log on Kafka by the readings that
// share an append, the series on InfluxDB once it is compacted, states and evidence of the ledger. For sizing
// (docs/operations.md). Registers, powers and voltages wander as real ones do; constant ones would compress to nothing.
import { globSync, statSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { constants, zstdCompressSync } from "node:zlib";
import pino from "pino";
import { startInflux } from "../deploy/stack/influxdb.ts";
import { startKafka } from "../deploy/stack/kafka.ts";
import { startPostgres } from "../deploy/stack/postgres.ts";
import { applyReading } from "../domain/metering/apply-reading.ts";
import { applyRecord } from "../domain/metering/apply-record.ts";
import { packServicePoint } from "../domain/metering/packed-service-point.ts";
import type { Reading } from "../domain/metering/reading.ts";
import { wh } from "../domain/metering/units.ts";
import { type BatchInput, buildBatch } from "../domain/settlement/batch.ts";
import { createHasher } from "../domain/settlement/hasher.ts";
import { toHex } from "../domain/settlement/hex.ts";
import { KafkaEventLog } from "../event-log/kafka/kafka-event-log.ts";
import { INGEST_HEADERS } from "../event-log/topics.ts";
import { integerBetween, keyOf } from "../simulators/random.ts";
import { InfluxTimeSeries } from "../time-series/influxdb/influx-time-series.ts";
import { until } from "../tests/support/until.ts";

const METERS = 500;
const LENGTH_S = 900;
/** A day of quarters of an hour, some days ago. */
const FROM = Math.floor(Date.now() / 86_400_000) * 86_400 - 4 * 86_400;
const READINGS_EACH = 96;
const PARTITIONS = 14;
const APPENDS_OF = [1, 20, 200, 2_000];

const log = pino({ level: "silent" });
const SEED = keyOf("storage");
const exports = new Float64Array(METERS);
const imports = new Float64Array(METERS);

/** The reading of a meter at the end of its nth interval. */
function readingOf(meter: number, n: number): Reading {
  const powerW = integerBetween(SEED, -1_600, 2_400, meter, n);
  exports[meter]! += Math.max(0, -powerW) / 4;
  imports[meter]! += Math.max(0, powerW) / 4;
  return {
    ...{
      meterId: `mea-1000${String(meter).padStart(4, "0")}`,
      epoch: 0,
      seq: n,
      t: FROM + n * LENGTH_S,
      status: 0,
    },
    ...{ importWh: wh(Math.round(imports[meter]!)), exportWh: wh(Math.round(exports[meter]!)), powerW },
    ...{
      voltageDv: integerBetween(SEED + 1, 2_250, 2_350, meter, n),
      frequencyMhz: integerBetween(SEED + 2, 49_950, 50_050, meter, n),
    },
  };
}

function bytesIn(folder: string, pattern: string): number {
  return globSync(pattern, { cwd: folder })
    .map((file) => statSync(join(folder, file)))
    .filter((file) => file.isFile())
    .reduce((sum, { size }) => sum + size, 0);
}

function recordOf(topic: string, reading: Reading, partition: number) {
  const { meterId, epoch, seq, t, importWh, exportWh, powerW, voltageDv, frequencyMhz, status } = reading;
  const plain = {
    epoch,
    seq,
    t,
    importWh: Number(importWh),
    exportWh: Number(exportWh),
    powerW,
    voltageDv,
    frequencyMhz,
    status,
  };
  const headers = {
    [INGEST_HEADERS.kind]: "rd",
    [INGEST_HEADERS.mqttTopic]: `mt/v1/mea/bangkok/${meterId}/rd`,
    [INGEST_HEADERS.qos]: "1",
    [INGEST_HEADERS.receivedMs]: String(
      t * 1000 + integerBetween(SEED + 3, 0, 60_000, seq, Number(meterId.slice(-4))),
    ),
    [INGEST_HEADERS.servicePoint]: `sp-${meterId}`,
  };
  return { topic, partition, key: meterId, headers, value: Buffer.from(JSON.stringify(plain)) };
}

async function measureLog(folder: string, say: (what: string, bytes: number) => void): Promise<void> {
  const kafka = await startKafka({ dataDir: folder, brokers: 1 });
  const options = { brokers: kafka.bootstrap, namespace: "storage", replication: 1, minInsyncReplicas: 1 };
  const eventLog = await KafkaEventLog.open(options, { log });
  try {
    const appender = await eventLog.openAppender();
    for (const size of APPENDS_OF) {
      const topic = `of-${size}`;
      await eventLog.ensureTopics([{ topic, partitions: PARTITIONS }]);
      const appends = Math.min(1_000, Math.ceil(40_000 / size));
      for (let append = 0; append < appends; append += 1) {
        const records = Array.from({ length: size }, (_, i) => {
          const meter = (append * size + i) % METERS;
          return recordOf(topic, readingOf(meter, append), meter % PARTITIONS);
        });
        await appender.append(records);
      }
      const bytes = bytesIn(folder, `broker-1/data/storage.${topic}-*/*.log`);
      say(`log, bytes a reading and replica, appends of ${size}`, bytes / (appends * size));
    }
  } finally {
    await eventLog.close();
    await kafka.stop();
  }
}

async function measureSeries(folder: string, say: (what: string, bytes: number) => void): Promise<void> {
  const [influxDir, postgresDir] = [join(folder, "influxdb"), join(folder, "postgres")];
  // Compacts at once what it would compact after hours without a write.
  await mkdir(join(influxDir, "data"), { recursive: true });
  await writeFile(
    join(influxDir, "data/config.yaml"),
    'storage-cache-snapshot-write-cold-duration: "1s"\nstorage-compact-full-write-cold-duration: "5s"\n',
  );
  const influx = await startInflux({ dataDir: influxDir });
  const postgres = await startPostgres({ dataDir: postgresDir });
  const options = {
    url: influx.url,
    org: influx.org,
    token: influx.token,
    namespace: "storage",
    marksUrl: postgres.url,
  };
  const series = await InfluxTimeSeries.open(options, { log });
  try {
    for (let n = 1; n <= READINGS_EACH; n += 1) {
      const points = Array.from({ length: METERS }, (_, meter) => ({
        region: "bangkok",
        ...readingOf(meter, n),
      }));
      await series.write(points);
    }
    const data = join(influxDir, "data/engine");
    const size = () => bytesIn(data, "data/**/*.tsm");
    const settled = async () => {
      let before = -1;
      await until(
        "the series is compacted",
        async () => {
          const now = bytesIn(data, "wal/**/*.wal") === 0 ? size() : -2;
          if (now === before && now > 0) return true;
          before = now;
          await new Promise((done) => setTimeout(done, 8_000));
          return false;
        },
        240_000,
      );
      return size();
    };
    const raw = await settled();
    say("series, bytes a reading", raw / (METERS * READINGS_EACH));
    while ((await series.repair(4_000)) > 0);
    say("series, bytes of all rollups a meter and day", ((await settled()) - raw) / METERS);
  } finally {
    await series.close();
    await influx.stop();
    await postgres.stop();
  }
}

async function measureLedger(say: (what: string, bytes: number) => void): Promise<void> {
  const hasher = await createHasher();
  const inputOf = (n: number): BatchInput => ({
    ...{ region: 1, round: 0, interval: FROM + n * LENGTH_S, intervalLengthS: LENGTH_S, capWh: wh(10 ** 12) },
    ...{ registryVersion: 1n, offsets: [{ partition: 0, nextOffset: 1n }] },
    boundaries: Array.from({ length: METERS }, (_, meter) => {
      const { meterId, epoch, seq, t, exportWh } = readingOf(meter, n);
      const account = toHex(hasher.digest(new TextEncoder().encode(meterId)).slice(0, 20));
      return { account, servicePoint: `sp-${meterId}`, creditWh: exportWh, meterId, epoch, seq, t };
    }),
  });
  const first = buildBatch(hasher, undefined, inputOf(1));
  const second = buildBatch(hasher, first.evidence, inputOf(2));
  const stored = zstdCompressSync(second.file, { params: { [constants.ZSTD_c_compressionLevel]: 3 } });
  say("ledger, bytes of evidence a service point and interval", stored.length / METERS);

  const initial = { importWh: wh(0), exportWh: wh(0) };
  const device = {
    meterId: readingOf(0, 0).meterId,
    initial,
    modulusWh: wh(10 ** 9),
    maxPowerW: 100_000,
    secretSha256: "00".repeat(32),
  };
  const place = {
    id: "r",
    servicePoint: `sp-${device.meterId}`,
    at: FROM,
    utility: "mea",
    region: "bangkok",
  };
  const outcome = applyRecord(
    undefined,
    { type: "commission", ...place, account: `0x${"11".repeat(20)}`, device },
    LENGTH_S,
  );
  if (outcome.kind !== "applied") throw new Error("the meter is commissioned");
  [exports[0], imports[0]] = [0, 0];
  for (let n = 1; n <= 20; n += 1)
    applyReading(outcome.state, readingOf(0, n), { offset: BigInt(n), index: 0 }, LENGTH_S);
  say("ledger, bytes of state a service point", packServicePoint(outcome.state).length);
}

const folder = await mkdtemp(join(tmpdir(), "gridroot-storage-"));
const say = (what: string, bytes: number) => process.stdout.write(`${what.padEnd(60)} ${bytes.toFixed(1)}\n`);
try {
  await measureLedger(say);
  await measureLog(join(folder, "kafka"), say);
  await measureSeries(folder, say);
} finally {
  await rm(folder, { recursive: true, force: true });
}
