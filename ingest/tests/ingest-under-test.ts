import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import pino from "pino";
import { Registry } from "prom-client";
import { DEFAULT_CLOCK_LIMITS } from "../../domain/metering/codec.ts";
import type { EventLog, LogRecord } from "../../event-log/event-log.ts";
import { PostgresEventLog } from "../../event-log/postgres/postgres-event-log.ts";
import { DEAD_LETTER_TOPIC, regionTopic } from "../../event-log/topics.ts";
import { SettableClock } from "../../service/clock.ts";
import { openPool, type Pool } from "../../service/database.ts";
import { type FaultPoints, noFaults } from "../../service/faults.ts";
import { migrate } from "../../service/migrate.ts";
import { DEFAULT_INGEST_LIMITS, Ingest, type IngestOptions } from "../ingest.ts";

/** The instant that ingest's clock shows, unix seconds. */
export const NOW_S = 1_795_000_000;
export const SECRET = "0123456789abcdef0123456789abcdef";
export const PARTITIONS = 2;
const LOG = pino({ level: "silent" });

export interface Backend {
  readonly url: string;
  readonly pool: Pool;
  close(): Promise<void>;
}

/** A ledger with its schema and the regions bangkok (MEA) and central (PEA). */
export async function openBackend(url: string): Promise<Backend> {
  const pool = openPool(
    { connectionString: url, applicationName: "ingest test", maxConnections: 4, schema: "ledger" },
    () => {},
  );
  await migrate(pool, "ledger", new URL("../../ledger/migrations/", import.meta.url));
  await pool.query(
    "insert into region (region_id, name, utility) values (1, 'bangkok', 'mea'), (2, 'central', 'pea') on conflict do nothing",
  );
  return { url, pool, close: () => pool.end() };
}

/** Registers meters of region bangkok with the secret `SECRET`, each at a service point of its own. */
export async function addMeters(pool: Pool, ...meterIds: readonly string[]): Promise<void> {
  await pool.query(
    `insert into meter (meter_id, region_id, utility, service_point, account, modulus_wh, max_power_w, secret_sha256, commissioned_at)
     select id, 1, 'mea', 'sp-' || id, decode(repeat('11', 20), 'hex'), 1000000000, 10000, $2, 0
       from unnest($1::text[]) as id`,
    [meterIds, createHash("sha256").update(SECRET).digest()],
  );
}

export interface Worker {
  readonly ingest: Ingest;
  readonly eventLog: EventLog;
  readonly clock: SettableClock;
  readonly port: number;
  /** A counter's or gauge's value, over all labels or for those given. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  stop(): Promise<void>;
}

/** Starts a worker on a free port of its own, or on the given one. */
export async function startWorker(
  backend: Backend,
  options: Partial<IngestOptions> = {},
  more: { faults?: FaultPoints; eventLog?: EventLog } = {},
): Promise<Worker> {
  const metrics = new Registry();
  const clock = new SettableClock(NOW_S * 1000);
  const eventLog =
    more.eventLog ?? (await PostgresEventLog.open({ connectionString: backend.url }, { log: LOG }));
  const ingest = new Ingest(
    {
      ...DEFAULT_INGEST_LIMITS,
      host: "127.0.0.1",
      port: 0,
      workerId: "worker-1",
      reusePort: false,
      regions: ["bangkok", "central"],
      partitionsPerRegion: PARTITIONS,
      clockLimits: DEFAULT_CLOCK_LIMITS,
      ...options,
    },
    {
      pool: backend.pool,
      listenUrl: backend.url,
      eventLog,
      clock,
      log: LOG,
      metrics,
      faults: more.faults ?? noFaults,
    },
  );
  await ingest.start();
  return {
    ingest,
    eventLog,
    clock,
    port: ingest.port,
    async metric(name, labels = {}) {
      // Awaited in one turn of the event loop, several of these make one consistent picture.
      const { values } = await metrics.getSingleMetric(name)!.get();
      return values
        .filter((value) => Object.entries(labels).every(([label, wanted]) => value.labels[label] === wanted))
        .reduce((sum, { value }) => sum + value, 0);
    },
    async stop() {
      await ingest.stop();
      if (more.eventLog === undefined) await eventLog.close();
    },
  };
}

/** All records of a region, partition after partition. */
export async function readRegion(eventLog: EventLog, region = "bangkok"): Promise<readonly LogRecord[]> {
  const records: LogRecord[] = [];
  for (let partition = 0; partition < PARTITIONS; partition += 1) {
    records.push(...(await readPartition(eventLog, regionTopic(region), partition)));
  }
  return records;
}

export async function readDeadLetters(eventLog: EventLog): Promise<readonly LogRecord[]> {
  return readPartition(eventLog, DEAD_LETTER_TOPIC, 0);
}

async function readPartition(eventLog: EventLog, topic: string, partition: number): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  for (;;) {
    const next = await eventLog.read({ topic, partition }, BigInt(records.length), 1000);
    if (next.length === 0) return records;
    records.push(...next);
  }
}

/** The `seq` of a meter's readings in the order of the log, repeats included. */
export async function loggedSeqs(eventLog: EventLog, meterId: string): Promise<readonly number[]> {
  return (await readRegion(eventLog))
    .filter(({ key }) => key === meterId)
    .map(({ value }) => (JSON.parse(Buffer.from(value).toString()) as { seq: number }).seq);
}

/** Asserts promise 2 in process counters, at any instant. */
export async function assertCountersAddUp(worker: Worker): Promise<void> {
  const names = [
    "received",
    "appended",
    "dead_lettered",
    "repeated",
    "failed",
    "in_flight",
    "qos0",
    "unacknowledgeable",
  ] as const;
  const values: (number | undefined)[] = await Promise.all([
    worker.metric("ingest_puback_total"),
    ...names.map((name) => worker.metric(`ingest_publish_${name}${name === "in_flight" ? "" : "_total"}`)),
  ]);
  const [acknowledged = 0, received, ...rest] = values;
  const [
    appended = 0,
    deadLettered = 0,
    repeated = 0,
    failed = 0,
    inFlight = 0,
    qos0 = 0,
    unacknowledgeable = 0,
  ] = rest;
  const seen = JSON.stringify(
    Object.fromEntries(["acknowledged", ...names].map((name, at) => [name, values[at]])),
  );
  assert.equal(received, appended + deadLettered + repeated + failed + inFlight, seen);
  assert.equal(appended + deadLettered, acknowledged + qos0 + unacknowledgeable, seen);
}

/** The payload of one reading. */
export function reading(seq: number, more: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({ seq, t: NOW_S - 10_000 + seq, importWh: 1000 + seq, exportWh: 5 * seq, ...more });
}

export function rdTopic(meterId: string): string {
  return `mt/v1/mea/bangkok/${meterId}/rd`;
}
