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
import { Unwritten } from "./unwritten.ts";

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
  readonly #unwritten: Unwritten;
  readonly #openings: OpeningNotes;
  readonly #regionId: number;
  /** Applying records and flushing exclude each other. */
  readonly #exclusive = new Exclusive();
  readonly #stopWatching: () => void;
  readonly #timer: NodeJS.Timeout;
  #retry: NodeJS.Timeout | undefined;
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
    this.#memory = loaded.memory;
    this.#unwritten = new Unwritten(
      options.flushEveryRecords,
      loaded.memory,
      dependencies.watch,
      loaded.claim,
    );
    this.#openings = new OpeningNotes(options.intervalLengthS, dependencies.watch);
    this.#regionId = dependencies.watch.region.regionId;
    this.#stopWatching = dependencies.watch.onChange(() => this.#regionChanged());
    this.#timer = setInterval(() => this.#flushSoon(() => this.#unwritten.exists()), options.flushEveryMs);
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
    return this.#unwritten.claim.position;
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
        if (this.#unwritten.isDue()) await this.#flush();
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
      if (this.#failure !== undefined || !this.#unwritten.exists()) return;
      await this.#flush().catch((error: unknown) =>
        this.#log.warn({ err: error }, "partition given up unflushed"),
      );
    });
    this.#failure ??= new GridrootError("partition-closed", "the partition was given up");
  }

  /** Applies records from index `from` on; the index of the first that was not applied. */
  async #applyFrom(batch: RecordBatch, from: number, known: KnownIds): Promise<number> {
    let next = from;
    this.#unwritten.blockedBefore(undefined);
    for (; next < batch.records.length; next += 1) {
      const record = batch.records[next]!;
      const parsed = parseLogRecord(record);
      if (parsed.kind !== "registry" && this.#memory.changes.records.length > 0) {
        // Readings that follow may rest on what was registered, and `gridroot meters` waits for it.
        await this.#flush();
      }
      const latestEnd = this.#openings.note(parsed, record, this.#memory.sealedUntil ?? 0);
      if (this.#opensTooMuch(latestEnd)) {
        this.#unwritten.blockedBefore(latestEnd);
        break;
      }
      this.#apply(parsed, record, known);
      this.#unwritten.applied(batch, record);
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

  async #flush(): Promise<void> {
    const { claim, position, blockedEnd } = this.#unwritten;
    if (position === undefined) return;
    const { watch, metrics, onProgress, onFlushed } = this.#dependencies;
    const { records } = this.#memory.changes;
    await this.#announceOpenings();
    const timed = metrics.flushDuration.startTimer();
    try {
      const moved = await flushPartition(
        {
          regionId: this.#regionId,
          intervalLengthS: this.#options.intervalLengthS,
          claim,
          position,
          memory: this.#memory,
          blockedEnd,
        },
        this.#dependencies,
      );
      this.#unwritten.written(moved);
    } catch (error) {
      if (error instanceof GridrootError && error.code === "partition-taken-over") this.#fail(error);
      throw error;
    }
    timed();
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
      return this.#unwritten.isDue();
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
        this.#retry = setTimeout(() => this.#flushSoon(() => this.#unwritten.exists()), RETRY_MS);
      }
    });
  }

  async #roomOrAbort(signal: AbortSignal): Promise<void> {
    const { metrics } = this.#dependencies;
    const onAbort = () => this.#wake();
    signal.addEventListener("abort", onAbort);
    metrics.pausedPartitions.inc();
    try {
      while (!signal.aborted && this.#failure === undefined && this.#isBlocked()) {
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#wake = resolve;
        // What changed before there was somebody to wake is seen here.
        await this.#exclusive.run(() => Promise.resolve(this.#catchUpWithSeal()));
        if (this.#isBlocked()) await promise;
      }
    } finally {
      metrics.pausedPartitions.dec();
      signal.removeEventListener("abort", onAbort);
    }
  }

  #isBlocked(): boolean {
    return this.#opensTooMuch(this.#unwritten.blockedEnd);
  }

  #throwIfVoid(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #fail(error: Error): void {
    this.#failure = error;
    this.#wake();
  }
}
