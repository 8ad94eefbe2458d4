import { randomUUID } from "node:crypto";
import pino, { type Logger } from "pino";
import { Registry } from "prom-client";
import {
  Aggregator,
  type AggregatorDependencies,
  type AggregatorOptions,
} from "../../aggregator/aggregator.ts";
import { encodeReadings } from "../../domain/metering/codec.ts";
import type { Reading } from "../../domain/metering/reading.ts";
import type { CommissionRecord, RegistryRecord } from "../../domain/metering/registry-records.ts";
import { wh } from "../../domain/metering/units.ts";
import { decodeEvidence, type Evidence } from "../../domain/settlement/evidence.ts";
import { type Appender, partitionOf } from "../../event-log/event-log.ts";
import { PostgresEventLog } from "../../event-log/postgres/postgres-event-log.ts";
import { INGEST_HEADERS, regionTopic } from "../../event-log/topics.ts";
import { type Batch, listBatches, readEvidence } from "../../ledger/batches.ts";
import { submitRegistryRecords } from "../../ledger/registry-submission.ts";
import { systemClock } from "../../service/clock.ts";
import { openPool, type Pool } from "../../service/database.ts";
import { noFaults } from "../../service/faults.ts";
import type { JobsBackend } from "../../service/job-store.ts";
import { migrate } from "../../service/migrate.ts";
import { createTestDatabase } from "./postgres.ts";
import { until } from "./until.ts";

export const INTERVAL_S = 900;
/** A boundary long past, as in a replay: every interval after it has ended. */
export const BEGIN = 1_790_000_100 - (1_790_000_100 % INTERVAL_S);
export const REGION = { regionId: 1, name: "bangkok", utility: "mea", capWh: 1_000_000_000n };
export const MODULUS_WH = 1_000_000n;
/** Keeps event time orderly: a reading cannot exceed what 100 kW bring. */
export const MAX_POWER_W = 100_000;

export const silent: Logger = pino({ level: process.env["TEST_LOG_LEVEL"] ?? "silent" });

export interface AggregationOptions {
  readonly url?: string;
  /** Where `url` is a pooler in transaction mode: the server behind it. */
  readonly directUrl?: string;
  readonly partitionsPerRegion?: number;
  /** Where the seal jobs are kept. Default: in the ledger's database. */
  readonly jobs?: JobsBackend;
}

/** A ledger and a log in one test database, aggregators on them, and what a test asks them. */
export class Aggregation {
  /** Of the server itself. */
  readonly url: string;
  readonly pool: Pool;
  readonly eventLog: PostgresEventLog;
  readonly partitionsPerRegion: number;
  readonly jobs: JobsBackend;
  readonly #appender: Appender;
  readonly #closing: (() => Promise<void>)[] = [];
  #appending: Promise<void> = Promise.resolve();

  private constructor(parts: {
    url: string;
    pool: Pool;
    eventLog: PostgresEventLog;
    appender: Appender;
    partitionsPerRegion: number;
    jobs: JobsBackend;
  }) {
    this.url = parts.url;
    this.pool = parts.pool;
    this.eventLog = parts.eventLog;
    this.#appender = parts.appender;
    this.partitionsPerRegion = parts.partitionsPerRegion;
    this.jobs = parts.jobs;
  }

  static async open(options: AggregationOptions = {}): Promise<Aggregation> {
    const { partitionsPerRegion = 2, directUrl } = options;
    const url = options.url ?? (await createTestDatabase());
    const pool = openPool(
      {
        ...{ connectionString: url, applicationName: "test", maxConnections: 10 },
        ...(directUrl === undefined ? { schema: "ledger" } : {}),
      },
      () => {},
    );
    await migrate(pool, "ledger", new URL("../../ledger/migrations/", import.meta.url));
    const connectionString = directUrl ?? url;
    const eventLog = await PostgresEventLog.open({ connectionString, leaseMs: 1_500 }, { log: silent });
    const appender = await eventLog.openAppender();
    const jobs = options.jobs ?? { kind: "postgres", connectionString };
    return new Aggregation({ url: connectionString, pool, eventLog, appender, partitionsPerRegion, jobs });
  }

  async close(): Promise<void> {
    for (const close of this.#closing.toReversed()) await close();
    await this.#appender.close();
    await this.eventLog.close();
    await this.pool.end();
  }

  /** Starts an aggregator that stops with the test. */
  async start(
    options: Partial<AggregatorOptions> = {},
    dependencies: Partial<AggregatorDependencies> = {},
  ): Promise<Aggregator> {
    const aggregator = new Aggregator(
      {
        regions: [REGION],
        intervalLengthS: INTERVAL_S,
        partitionsPerRegion: this.partitionsPerRegion,
        graceMs: 200,
        flushEveryMs: 30_000,
        flushEveryRecords: 200_000,
        jobs: this.jobs,
        ledgerConnectionString: this.url,
        sweepEveryMs: 500,
        ...options,
      },
      {
        pool: this.pool,
        eventLog: this.eventLog,
        clock: systemClock,
        log: silent,
        metrics: new Registry(),
        faults: noFaults,
        ...dependencies,
      },
    );
    await aggregator.start();
    this.#closing.push(() => aggregator.stop());
    return aggregator;
  }

  /** Commissions meters `m0`, `m1`, ... at `BEGIN`, each at a service point and with an account of its own. */
  async commission(count: number, region: { name: string; utility: string } = REGION): Promise<void> {
    const records = Array.from({ length: count }, (_, index) => commissionRecord(`m${index}`, region));
    await this.submit(records, region.name);
  }

  submit(records: readonly RegistryRecord[], region = REGION.name): Promise<void> {
    const { eventLog, pool, partitionsPerRegion } = this;
    return submitRegistryRecords({ eventLog, pool, partitionsPerRegion }, region, records);
  }

  /** Appends readings, one record for each; resolves once they are durable. */
  publish(readings: readonly Reading[], region = REGION.name): Promise<void> {
    return this.publishPayloads(
      readings.map((reading) => [reading.meterId, encodeReadings([reading])] as const),
      region,
    );
  }

  publishPayloads(
    payloads: readonly (readonly [meterId: string, payload: Uint8Array])[],
    region = REGION.name,
    kind = "rd",
  ): Promise<void> {
    const records = payloads.map(([meterId, value]) => ({
      topic: regionTopic(region),
      partition: partitionOf(servicePointOf(meterId), this.partitionsPerRegion),
      key: meterId,
      headers: { [INGEST_HEADERS.kind]: kind, [INGEST_HEADERS.servicePoint]: servicePointOf(meterId) },
      value,
    }));
    this.#appending = this.#appending.then(() => this.#appender.append(records));
    return this.#appending;
  }

  /** Batches in the order of their intervals. */
  async batches(region = REGION.name): Promise<readonly Batch[]> {
    return (await listBatches(this.pool, { region, limit: 1000 })).toReversed();
  }

  async evidence(batch: Batch): Promise<Evidence> {
    return decodeEvidence(await this.evidenceFile(batch));
  }

  async evidenceFile(batch: Batch): Promise<Buffer> {
    const file = await readEvidence(this.pool, batch);
    if (file === undefined) throw new Error("no evidence");
    return file;
  }

  async sealedUntil(region = REGION.name): Promise<number> {
    const result = await this.pool.query<{ sealed_until: bigint | null }>(
      "select sealed_until from ledger.region where name = $1",
      [region],
    );
    return Number(result.rows[0]?.sealed_until ?? 0n);
  }

  /** Waits until the region is sealed up to the boundary after `intervals` intervals. */
  async untilSealed(intervals: number, region = REGION.name): Promise<void> {
    const end = BEGIN + intervals * INTERVAL_S;
    const sealed = async () => (await this.sealedUntil(region)) >= end;
    await until(`interval ${intervals} of ${region} is sealed`, sealed, 20_000);
  }

  /** How many readings the ledger has taken into account, all partitions together. */
  async readingsWritten(): Promise<number> {
    const [row] = await this.rows("select coalesce(sum(readings), 0)::bigint as n from partition_progress");
    return Number(row!["n"]);
  }

  /** Rows of a statement, with bigints as numbers. */
  async rows(text: string, values: readonly unknown[] = []): Promise<Record<string, unknown>[]> {
    const result = await this.pool.query<Record<string, unknown>>(text, [...values]);
    return result.rows.map((row) =>
      Object.fromEntries(
        Object.entries(row).map(([name, value]) => [name, typeof value === "bigint" ? Number(value) : value]),
      ),
    );
  }
}

/** Meters that follow one another at a service point are named `m1`, `m1.1` and so on. */
export function servicePointOf(meterId: string): string {
  return `sp-${meterId.split(".")[0]}`;
}

export function accountOf(meterId: string): string {
  return `0x${Buffer.from(servicePointOf(meterId).padEnd(20, "-")).toString("hex")}`;
}

export function device(meterId: string, exportWh = 0n) {
  return {
    meterId,
    initial: { importWh: wh(0), exportWh: wh(exportWh) },
    modulusWh: wh(MODULUS_WH),
    maxPowerW: MAX_POWER_W,
    secretSha256: "0".repeat(64),
  };
}

export function commissionRecord(
  meterId: string,
  region: { name: string; utility: string } = REGION,
): CommissionRecord {
  return {
    type: "commission",
    id: randomUUID(),
    servicePoint: servicePointOf(meterId),
    at: BEGIN,
    utility: region.utility,
    region: region.name,
    account: accountOf(meterId),
    device: device(meterId),
  };
}

/** A reading `seconds` after `BEGIN`; its seq is its time unless told otherwise. */
export function readingAt(
  meterId: string,
  seconds: number,
  exportWh: number | bigint,
  more: Partial<Reading> = {},
): Reading {
  return {
    meterId,
    epoch: 0,
    seq: Math.round(seconds),
    t: BEGIN + seconds,
    importWh: wh(0),
    exportWh: wh(exportWh),
    status: 0,
    ...more,
  };
}
