import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { createHasher } from "../domain/settlement/hasher.ts";
import type {
  EventLog,
  GroupMember,
  PartitionHandler,
  PositionMismatch,
  RecordBatch,
  TopicPartition,
} from "../event-log/event-log.ts";
import { regionTopic } from "../event-log/topics.ts";
import { BATCHES_CHANNEL, type BatchKey } from "../ledger/batches.ts";
import { ensureRegions } from "../ledger/regions.ts";
import { AGGREGATOR, BARRIERS_CHANNEL } from "../ledger/sealing.ts";
import type { Clock } from "../service/clock.ts";
import { listen, type Listener, type Pool } from "../service/database.ts";
import { invariant } from "../service/errors.ts";
import type { FaultPoints } from "../service/faults.ts";
import type { JobsBackend } from "../service/job-store.ts";
import type { Service } from "../service/lifecycle.ts";
import { AggregatorMetrics } from "./aggregator-metrics.ts";
import { LateReadings } from "./late-readings.ts";
import { PartitionConsumer } from "./partition-consumer.ts";
import { type RegionConfig, RegionWatch } from "./region-watch.ts";
import { SealJobs } from "./seal-jobs.ts";
import { Sealer } from "./sealer.ts";

export type { RegionConfig } from "./region-watch.ts";
export { ensureRegions } from "../ledger/regions.ts";

/** Where a crash test kills the aggregator. */
export const AGGREGATOR_FAULT_POINTS = [
  "aggregator.flush.before",
  "aggregator.flush.states-written",
  "aggregator.flush.before-commit",
  "aggregator.flush.after-commit",
  "aggregator.barrier.stored",
  "aggregator.seal.before",
  "aggregator.seal.before-commit",
  "aggregator.seal.after-commit",
] as const;

export interface AggregatorOptions {
  readonly regions: readonly RegionConfig[];
  /** Length of a settlement interval, s. */
  readonly intervalLengthS: number;
  readonly partitionsPerRegion: number;
  /** How long a seal waits for those who have not reported past the interval's end, ms. */
  readonly graceMs: number;
  /** How often states are written when no seal waits for them, ms. */
  readonly flushEveryMs: number;
  /** After how many records of a partition at the latest. */
  readonly flushEveryRecords: number;
  /** Where the seal jobs are kept. */
  readonly jobs: JobsBackend;
  /** The ledger's server itself, past a pooler, for LISTEN. */
  readonly ledgerConnectionString: string;
  /** How often all regions are looked at, whatever was announced, ms. Default 2,000. */
  readonly sweepEveryMs?: number;
  /** Regions that this process seals at a time. Default 2. */
  readonly sealConcurrency?: number;
  /** After so long without a sign of life from its process a seal job is done by another, ms. Default 5,000. */
  readonly sealLockMs?: number;
}

export interface AggregatorDependencies {
  /** On the ledger's schema. */
  readonly pool: Pool;
  readonly eventLog: EventLog;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Registry;
  readonly faults: FaultPoints;
  /** Called after each batch's commit, by the process that sealed it. */
  readonly onSealed?: (batch: BatchKey) => void;
}

/**
 * Log to batches: keeps the registers of every service point, projects the registry from the log, and seals one batch
 * for each region and interval. Several aggregators share the partitions and the seal jobs.
 */
export class Aggregator implements Service {
  readonly name = "aggregator";
  readonly #options: AggregatorOptions;
  readonly #dependencies: AggregatorDependencies;
  readonly #metrics: AggregatorMetrics;
  readonly #watches: ReadonlyMap<number, RegionWatch>;
  readonly #watchByTopic: ReadonlyMap<string, RegionWatch>;
  readonly #lateReadings = new LateReadings();
  readonly #consumers = new Map<string, PartitionConsumer>();
  readonly #haltedPartitions = new Set<string>();
  readonly #listeners: Listener[] = [];
  #jobs: SealJobs | undefined;
  #member: GroupMember | undefined;

  constructor(options: AggregatorOptions, dependencies: AggregatorDependencies) {
    this.#options = options;
    this.#dependencies = { ...dependencies, log: dependencies.log.child({ part: "aggregator" }) };
    this.#metrics = new AggregatorMetrics(dependencies.metrics);
    const watches = options.regions.map((region) => new RegionWatch(region, dependencies));
    this.#watches = new Map(watches.map((watch) => [watch.region.regionId, watch]));
    this.#watchByTopic = new Map(watches.map((watch) => [regionTopic(watch.region.name), watch]));
  }

  async start(): Promise<void> {
    const { pool, eventLog } = this.#dependencies;
    const { regions, partitionsPerRegion: partitions } = this.#options;
    await ensureRegions(pool, regions);
    const topics = [...this.#watchByTopic.keys()];
    await eventLog.ensureTopics(topics.map((topic) => ({ topic, partitions })));
    await this.#startSealing();
    await this.#listen(BATCHES_CHANNEL);
    await this.#listen(BARRIERS_CHANNEL);
    for (const watch of this.#watches.values()) await watch.refresh();
    const handler: PartitionHandler = {
      assigned: (partition) => this.#assigned(partition),
      records: (batch, signal) => this.#records(batch, signal),
      revoked: (partition) => this.#revoked(partition),
      halted: (partition, reason) => this.#halted(partition, reason),
    };
    this.#member = await eventLog.join(AGGREGATOR, topics, handler);
  }

  /** Leaves the group, which writes what is in memory, then lets running seals end. */
  async stop(): Promise<void> {
    await this.#member?.stop();
    await this.#jobs?.stop();
    for (const listener of this.#listeners) await listener.stop();
  }

  async #startSealing(): Promise<void> {
    const { onSealed = () => {}, ...rest } = this.#dependencies;
    const hasher = await createHasher();
    const metrics = this.#metrics;
    const sealer = new Sealer(this.#options, { ...rest, hasher, metrics, onSealed });
    const { jobs, sweepEveryMs = 2_000, sealConcurrency = 2, sealLockMs = 5_000 } = this.#options;
    this.#jobs = new SealJobs(
      { backend: jobs, sweepEveryMs, concurrency: sealConcurrency, lockMs: sealLockMs },
      { ...rest, sealer, watches: this.#watches, metrics },
    );
    await this.#jobs.start();
  }

  /** Another process sealed or waits for a flush: look at what it is about, or at everything after a lost session. */
  async #listen(channel: string): Promise<void> {
    const { log } = this.#dependencies;
    const listener = await listen(this.#options.ledgerConnectionString, channel, (payload) => {
      const named = payload === undefined ? undefined : this.#watches.get(Number(payload));
      for (const watch of named === undefined ? this.#watches.values() : [named]) {
        watch.refresh().catch((error: unknown) => log.warn({ err: error, channel }, "region not read again"));
      }
    });
    this.#listeners.push(listener);
  }

  async #assigned(partition: TopicPartition) {
    const watch = this.#watchByTopic.get(partition.topic);
    invariant(watch !== undefined, "a topic that was joined belongs to a region");
    const consumer = await PartitionConsumer.open(
      this.#options,
      {
        ...this.#dependencies,
        metrics: this.#metrics,
        lateReadings: this.#lateReadings,
        watch,
        onProgress: (regionId) => this.#jobs?.look(regionId),
        onFlushed: (flushed, position) => void this.#member?.hint(flushed, position),
      },
      partition,
    );
    this.#consumers.set(keyOf(partition), consumer);
    return consumer.position;
  }

  async #records(batch: RecordBatch, signal: AbortSignal): Promise<void> {
    const consumer = this.#consumers.get(keyOf(batch));
    invariant(consumer !== undefined, "records come after assigned");
    await consumer.records(batch, signal);
  }

  async #revoked(partition: TopicPartition): Promise<void> {
    const consumer = this.#consumers.get(keyOf(partition));
    this.#consumers.delete(keyOf(partition));
    this.#haltedPartitions.delete(keyOf(partition));
    this.#metrics.haltedPartitions.set(this.#haltedPartitions.size);
    await consumer?.close();
  }

  #halted(partition: TopicPartition, { code, message }: PositionMismatch): void {
    this.#haltedPartitions.add(keyOf(partition));
    this.#metrics.haltedPartitions.set(this.#haltedPartitions.size);
    this.#dependencies.log.error({ ...partition, code, detail: message }, "partition halted");
  }
}

function keyOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}
