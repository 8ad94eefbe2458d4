// The event log: readings appended a second by one and two appenders, readings read a second by one consumer, and the
// time from an append's begin to its end and to its arrival. A server of its own, durable as in production: PostgreSQL,
// or with `--backend kafka` one broker of Kafka, which makes durable by replicas and leaves writing to the system.
// Appends are of 200 readings over 28 partitions, which is what a group commit of some ms gathers.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pino from "pino";
import { startKafka } from "../deploy/stack/kafka.ts";
import type { Appender, EventLog, NewRecord, PartitionHandler } from "../event-log/event-log.ts";
import { KafkaEventLog } from "../event-log/kafka/kafka-event-log.ts";
import { PostgresEventLog } from "../event-log/postgres/postgres-event-log.ts";
import { INGEST_HEADERS } from "../event-log/topics.ts";
import { startPostgres } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";

const TOPIC = "readings.bench";
const PARTITIONS = 28;
const PER_APPEND = 200;
const APPENDS = 500;
const PROBES = 200;

const VALUE = Buffer.from(
  '{"epoch":0,"seq":1041,"t":1795000000,"importWh":123456,"exportWh":2345,"powerW":-812,"voltageDv":2301,' +
    '"frequencyMhz":50012,"status":0}',
);

function readings(round: number, count: number): NewRecord[] {
  return Array.from({ length: count }, (_, n) => {
    const meterId = `m-${(round * count + n) % 50_000}`;
    const headers = {
      [INGEST_HEADERS.kind]: "rd",
      [INGEST_HEADERS.mqttTopic]: `mt/v1/mea/bangkok/${meterId}/rd`,
      [INGEST_HEADERS.qos]: "1",
      [INGEST_HEADERS.receivedMs]: "1795000000123",
      [INGEST_HEADERS.servicePoint]: `sp-${meterId}`,
    };
    return { topic: TOPIC, partition: n % PARTITIONS, key: meterId, headers, value: VALUE };
  });
}

/** Appends one after another; returns how long each took, ms. */
async function appendAll(appender: Appender): Promise<number[]> {
  const tookMs: number[] = [];
  for (let round = 0; round < APPENDS; round += 1) {
    const records = readings(round, PER_APPEND);
    const began = performance.now();
    await appender.append(records);
    tookMs.push(performance.now() - began);
  }
  return tookMs;
}

function quantile(values: readonly number[], q: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(q * (values.length - 1))] ?? 0;
}

function consumer(onRecords: (count: number) => void): PartitionHandler {
  return {
    assigned: () => Promise.resolve(undefined),
    records: (batch) => Promise.resolve(onRecords(batch.records.length)),
    revoked: () => Promise.resolve(),
    halted: ({ partition }, { message }) =>
      process.stderr.write(`partition ${partition} halted: ${message}\n`),
  };
}

/** Reads everything into a new group, then measures how soon single appends arrive. */
async function readAll(
  eventLog: EventLog,
  appender: Appender,
  total: number,
  figures: Record<string, number>,
) {
  let read = 0;
  const began = performance.now();
  const member = await eventLog.join(
    "bench",
    [TOPIC],
    consumer((count) => (read += count)),
  );
  await until("all is read", () => read === total, 120_000);
  figures["readings read a second"] = (total / (performance.now() - began)) * 1000;
  await member.stop();

  let arrived: (() => void) | undefined;
  let newest = 0;
  const following = await eventLog.join(
    "bench-latency",
    [TOPIC],
    consumer((count) => {
      newest += count;
      if (newest > total) arrived?.();
    }),
  );
  await until("the follower has caught up", () => newest === total, 120_000);
  const tookMs: number[] = [];
  for (let probe = 0; probe < PROBES; probe += 1) {
    const { promise, resolve } = Promise.withResolvers<void>();
    arrived = resolve;
    const sentAt = performance.now();
    await appender.append(readings(probe, 1));
    await promise;
    tookMs.push(performance.now() - sentAt);
  }
  figures["append to arrival, ms, p50"] = quantile(tookMs, 0.5);
  figures["append to arrival, ms, p99"] = quantile(tookMs, 0.99);
  await following.stop();
}

interface Backend {
  readonly eventLog: EventLog;
  stop(): Promise<void>;
}

const log = pino({ level: "silent" });

const BACKENDS: Readonly<Record<string, () => Promise<Backend>>> = {
  async postgres() {
    const server = await startPostgres([]);
    const eventLog = await PostgresEventLog.open({ connectionString: server.url }, { log });
    return { eventLog, stop: () => server.stop() };
  },
  async kafka() {
    const dataDir = await mkdtemp(join(tmpdir(), "gridroot-bench-"));
    const cluster = await startKafka({ dataDir, brokers: 1 });
    const eventLog = await KafkaEventLog.open(
      { brokers: cluster.bootstrap, namespace: "bench", replication: 1, minInsyncReplicas: 1 },
      { log },
    );
    return {
      eventLog,
      async stop() {
        await cluster.stop();
        await rm(dataDir, { recursive: true, force: true });
      },
    };
  },
};

async function measure(eventLog: EventLog): Promise<Record<string, number>> {
  await eventLog.ensureTopics([{ topic: TOPIC, partitions: PARTITIONS }]);
  const [first, second] = [await eventLog.openAppender(), await eventLog.openAppender()];
  await appendAll(first);
  const figures: Record<string, number> = {};
  let began = performance.now();
  const tookMs = await appendAll(first);
  figures["readings appended a second, one appender"] =
    (APPENDS * PER_APPEND * 1000) / (performance.now() - began);
  figures["append of 200 readings, ms, p50"] = quantile(tookMs, 0.5);
  figures["append of 200 readings, ms, p99"] = quantile(tookMs, 0.99);
  began = performance.now();
  await Promise.all([appendAll(first), appendAll(second)]);
  figures["readings appended a second, two appenders"] =
    (2 * APPENDS * PER_APPEND * 1000) / (performance.now() - began);
  await readAll(eventLog, first, 4 * APPENDS * PER_APPEND, figures);
  return figures;
}

const { values } = parseArgs({
  options: { backend: { type: "string", default: "postgres" } },
  allowPositionals: true,
});
const open = BACKENDS[values.backend];
if (open === undefined) throw new Error(`--backend is one of ${Object.keys(BACKENDS).join(", ")}`);
const { eventLog, stop } = await open();
try {
  for (const [name, value] of Object.entries(await measure(eventLog))) {
    process.stdout.write(`${name.padEnd(50)} ${value.toFixed(value < 100 ? 1 : 0)}\n`);
  }
} finally {
  await eventLog.close();
  await stop();
}
