import type { Logger } from "pino";
import type { EventLog, LogRecord, Position, RecordBatch, TopicPartition } from "../event-log/event-log.ts";
import { type Claim, takeOver } from "../ledger/consumer-offsets.ts";
import { readRegionTip } from "../ledger/regions.ts";
import { AGGREGATOR } from "../ledger/sealing.ts";
import { loadServicePoints } from "../ledger/service-point-states.ts";
import { inTransaction } from "../service/database.ts";
import { GridrootError } from "../service/errors.ts";
import type { AggregatorMetrics } from "./aggregator-metrics.ts";
import { Exclusive } from "./exclusive.ts";
import { type FlushDependencies, flushPartition } from "./flush.ts";
import { type Parsed, parseLogRecord } from "./log-records.ts";
import { OpeningNotes } from "./opening-notes.ts";
import {
  type KnownIds,
  MAX_OPEN_BOUNDARIES,
  type PartitionIdentity,
  PartitionMemory,
} from "./partition-memory.ts";
import type { RegionWatch } from "./region-watch.ts";
import { announceRegistry, knownIds } from "./registry-news.ts";

export interface PartitionConsumerOptions {
  readonly intervalLengthS: number;
  readonly partitionsPerRegion: number;
  readonly flushEveryMs: number;
  readonly flushEveryRecords: number;
}

export interface PartitionConsumerDependencies extends FlushDependencies {
  readonly eventLog: EventLog;
  readonly log: Logger;
  readonly metrics: AggregatorMetrics;
  readonly watch: RegionWatch;
  /** Called after what was written may have made a seal possible. */
  readonly onProgress: (regionId: number) => void;
  /** Called after a flush with the stored position. */
  readonly onFlushed: (partition: TopicPartition, position: Position) => void;
}

/** Pause before a failed flush is tried again. */
const RETRY_MS = 1_000;

/**
 * One partition while this process holds it: applies its records to the states in memory and writes them, with the
 * offset, now and then, or at once when a seal waits for them.
 */
export class PartitionConsumer {
  readonly #options: PartitionConsumerOptions;
  readonly #dependencies: PartitionConsumerDependencies;
  readonly #partition: TopicPartition;
  readonly #log: Logger;
  readonly #memory: PartitionMemory;
  readonly #openings: OpeningNotes;
  readonly #regionId: number;
  /** Applying records and flushing exclude each other. */
  readonly #exclusive = new Exclusive();
  readonly #stopWatching: () => void;
  readonly #timer: NodeJS.Timeout;
  #retry: NodeJS.Timeout | undefined;
  #claim: Claim;
  /** The last record applied, and where it was delivered. */
  #applied: { batch: RecordBatch; record: LogRecord } | undefined;
  #recordsSinceFlush = 0;
  #completeFlushed = 0;
  #blockedEnd: number | undefined;
  #blockedFlushed: number | undefined;
  #failure: Error | undefined;
  #wake: () => void = () => {};

  private constructor(
    options: PartitionConsumerOptions,
    dependencies: PartitionConsumerDependencies,
    partition: TopicPartition,
    loaded: { claim: Claim; memory: PartitionMemory },
  ) {
    this.#options = options;
    this.#dependencies = dependencies;
    this.#partition = partition;
    this.#log = dependencies.log.child({ topic: partition.topic, partition: partition.partition });
    this.#claim = loaded.claim;
    this.#memory = loaded.memory;
    this.#openings = new OpeningNotes(options.intervalLengthS, dependencies.watch);
    this.#regionId = dependencies.watch.region.regionId;
    this.#stopWatching = dependencies.watch.onChange(() => this.#regionChanged());
    this.#timer = setInterval(() => this.#flushSoon(() => this.#unflushed()), options.flushEveryMs);
  }

  /** Takes the partition over and reads its states: from here on the former owner can write nothing. */
  static async open(
    options: PartitionConsumerOptions,
    dependencies: PartitionConsumerDependencies,
    partition: TopicPartition,
  ): Promise<PartitionConsumer> {
    const { regionId, name: region } = dependencies.watch.region;
    const { intervalLengthS, partitionsPerRegion } = options;
    const identity: PartitionIdentity = {
      ...{ regionId, region, topic: partition.topic, partition: partition.partition },
      ...{ intervalLengthS, partitionsPerRegion },
    };
    const loaded = await inTransaction(dependencies.pool, async (connection) => {
      const claim = await takeOver(connection, AGGREGATOR, partition);
      const { sealedUntil } = await readRegionTip(connection, regionId);
      const states = await loadServicePoints(connection, regionId, partition.partition);
      return { claim, memory: new PartitionMemory(identity, states, sealedUntil) };
    });
    return new PartitionConsumer(options, dependencies, partition, loaded);
  }

  get position(): Position | undefined {
    return this.#claim.position;
  }

  /**
   * Applies a batch. Pauses before a record that would open a boundary too many, until the region's seals have made
   * room or `signal` aborts.
   */
  async records(batch: RecordBatch, signal: AbortSignal): Promise<void> {
    const known = await knownIds(this.#dependencies.pool, batch.records);
    let next = 0;
    while (next < batch.records.length && !signal.aborted) {
      await this.#exclusive.run(async () => {
        this.#throwIfVoid();
        this.#catchUpWithSeal();
        next = await this.#applyFrom(batch, next, known);
        if (this.#flushDue()) await this.#flush();
      });
      if (next < batch.records.length) await this.#roomOrAbort(signal);
    }
  }

  /** Writes what is left and stops. Never rejects: what could not be written is read from the log again. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    clearTimeout(this.#retry);
    this.#stopWatching();
    await this.#exclusive.run(async () => {
      if (this.#failure !== undefined || !this.#unflushed()) return;
      await this.#flush().catch((error: unknown) =>
        this.#log.warn({ err: error }, "partition given up unflushed"),
      );
    });
    this.#failure ??= new GridrootError("partition-closed", "the partition was given up");
  }

  /** Applies records from index `from` on; the index of the first that was not applied. */
  async #applyFrom(batch: RecordBatch, from: number, known: KnownIds): Promise<number> {
    let next = from;
    this.#blockedEnd = undefined;
    for (; next < batch.records.length; next += 1) {
      const record = batch.records[next]!;
      const parsed = parseLogRecord(record);
      if (parsed.kind !== "registry" && this.#memory.changes.records.length > 0) {
        // Readings that follow may rest on what was registered, and `gridroot meters` waits for it.
        await this.#flush();
      }
      const latestEnd = this.#openings.note(parsed, record, this.#memory.sealedUntil ?? 0);
      if (this.#opensTooMuch(latestEnd)) {
        this.#blockedEnd = latestEnd;
        break;
      }
      this.#apply(parsed, record, known);
      this.#applied = { batch, record };
      this.#recordsSinceFlush += 1;
    }
    await this.#announceOpenings();
    return next;
  }

  /** A sealer has to know of an interval before it can see a point in it. */
  async #announceOpenings(): Promise<void> {
    if (await this.#openings.announce()) this.#dependencies.onProgress(this.#regionId);
  }

  #opensTooMuch(latestEnd: number | undefined): boolean {
    const { sealedUntil } = this.#memory;
    if (latestEnd === undefined || sealedUntil === undefined) return false;
    return latestEnd > sealedUntil + MAX_OPEN_BOUNDARIES * this.#options.intervalLengthS;
  }

  #apply(parsed: Parsed, record: LogRecord, known: KnownIds): void {
    const { metrics } = this.#dependencies;
    switch (parsed.kind) {
      case "readings": {
        const { readings, servicePoint } = parsed;
        for (const outcome of this.#memory.applyReadings(readings, record.offset, servicePoint)) {
          metrics.count(outcome);
        }
        return;
      }
      case "registry": {
        const refused = this.#memory.applyRegistryRecord(parsed.record, record.offset, known, parsed.refused);
        if (refused !== undefined) this.#log.warn({ reason: refused }, "registry record refused");
        return;
      }
      case "birth":
        this.#memory.keepBirth(parsed.birth);
        return;
      case "unreadable":
        metrics.unreadable.inc();
        return;
      case "other":
    }
  }

  #position(): Position | undefined {
    return this.#applied === undefined
      ? this.#claim.position
      : this.#applied.batch.positionAfter(this.#applied.record);
  }

  #unflushed(): boolean {
    const newlyBlocked = this.#blockedEnd !== undefined && this.#blockedEnd !== this.#blockedFlushed;
    return this.#recordsSinceFlush > 0 || newlyBlocked;
  }

  /** Whether somebody waits for what is in memory: the registry, a seal, or simply the next flush. */
  #flushDue(): boolean {
    if (!this.#unflushed()) return false;
    if (this.#memory.changes.records.length > 0) return true;
    if (this.#recordsSinceFlush >= this.#options.flushEveryRecords) return true;
    if (this.#blockedEnd !== undefined && this.#blockedEnd !== this.#blockedFlushed) return true;
    if ((this.#memory.completeUntil() ?? 0) > this.#completeFlushed) return true;
    const { partition } = this.#partition;
    const stored = this.#claim.position?.nextOffset ?? 0n;
    const reached = this.#position()?.nextOffset ?? 0n;
    return this.#dependencies.watch.barrierBetween(partition, stored, reached);
  }

  async #flush(): Promise<void> {
    const position = this.#position();
    if (position === undefined) return;
    const { watch, metrics, onProgress, onFlushed } = this.#dependencies;
    const { records } = this.#memory.changes;
    await this.#announceOpenings();
    const timed = metrics.flushDuration.startTimer();
    try {
      this.#claim = await flushPartition(
        {
          regionId: this.#regionId,
          intervalLengthS: this.#options.intervalLengthS,
          claim: this.#claim,
          position,
          memory: this.#memory,
          blockedEnd: this.#blockedEnd,
        },
        this.#dependencies,
      );
    } catch (error) {
      if (error instanceof GridrootError && error.code === "partition-taken-over") this.#fail(error);
      throw error;
    }
    timed();
    this.#recordsSinceFlush = 0;
    this.#completeFlushed = this.#memory.completeUntil() ?? 0;
    this.#blockedFlushed = this.#blockedEnd;
    const { sealedUntil } = this.#memory;
    if (sealedUntil !== undefined) watch.learnSeal(sealedUntil);
    onFlushed(this.#partition, position);
    onProgress(this.#regionId);
    if (records.length === 0) return;
    await announceRegistry(
      this.#dependencies.pool,
      this.#log,
      records.map(({ record }) => record),
    );
  }

  /** Takes over what the region's seals have changed, and wakes a pause. */
  #regionChanged(): void {
    this.#wake();
    this.#flushSoon(() => {
      this.#catchUpWithSeal();
      return this.#flushDue();
    });
  }

  #catchUpWithSeal(): void {
    const { sealedUntil } = this.#dependencies.watch;
    if (sealedUntil !== undefined && sealedUntil > (this.#memory.sealedUntil ?? 0)) {
      this.#memory.seal(sealedUntil);
    }
  }

  #flushSoon(due: () => boolean): void {
    void this.#exclusive.run(async () => {
      if (this.#failure !== undefined || !due()) return;
      try {
        await this.#flush();
      } catch (error) {
        this.#log.warn({ err: error }, "flush failed");
        clearTimeout(this.#retry);
        this.#retry = setTimeout(() => this.#flushSoon(() => this.#unflushed()), RETRY_MS);
      }
    });
  }

  async #roomOrAbort(signal: AbortSignal): Promise<void> {
    const { metrics } = this.#dependencies;
    const onAbort = () => this.#wake();
    signal.addEventListener("abort", onAbort);
    metrics.pausedPartitions.inc();
    try {
      while (!signal.aborted && this.#failure === undefined && this.#opensTooMuch(this.#blockedEnd)) {
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#wake = resolve;
        // What changed before there was somebody to wake is seen here.
        await this.#exclusive.run(() => Promise.resolve(this.#catchUpWithSeal()));
        if (this.#opensTooMuch(this.#blockedEnd)) await promise;
      }
    } finally {
      metrics.pausedPartitions.dec();
      signal.removeEventListener("abort", onAbort);
    }
  }

  #throwIfVoid(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #fail(error: Error): void {
    this.#failure = error;
    this.#wake();
  }
}
