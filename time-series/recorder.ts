import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import type {
  Appender,
  EventLog,
  GroupMember,
  PartitionHandler,
  Position,
  PositionMismatch,
  RecordBatch,
  TopicPartition,
} from "../event-log/event-log.ts";
import { regionTopic } from "../event-log/topics.ts";
import { takeOver, type Claim } from "../ledger/consumer-offsets.ts";
import type { Pool } from "../service/database.ts";
import { invariant } from "../service/errors.ts";
import type { FaultPoints } from "../service/faults.ts";
import type { Service } from "../service/lifecycle.ts";
import { slicesOf } from "./recorded-slice.ts";
import { RECORDER, recorderBalance } from "./recorder-balance.ts";
import { RecorderMetrics } from "./recorder-metrics.ts";
import { SeriesFlusher } from "./series-flusher.ts";
import type { TimeSeries } from "./time-series.ts";

/** Where a crash test kills the recorder. */
export const RECORDER_FAULT_POINTS = [
  "recorder.before-write",
  "recorder.after-write",
  "recorder.after-dead-letters",
  "recorder.before-commit",
  "recorder.after-commit",
] as const;

export interface RecorderOptions {
  /** Names of the regions to record. */
  readonly regions: readonly string[];
  /** Points that one write to the series holds, at least one record. Default 5,000. */
  readonly maxPointsPerWrite?: number;
  /** Pause after a failed write; doubles up to 10 s. Default 200 ms. */
  readonly firstPauseMs?: number;
  /** How often lag and balance are looked at. Default 5 s. */
  readonly watchEveryMs?: number;
}

export interface RecorderDependencies {
  /** On the ledger's schema. */
  readonly pool: Pool;
  readonly eventLog: EventLog;
  readonly timeSeries: TimeSeries;
  readonly log: Logger;
  readonly metrics: Registry;
  readonly faults: FaultPoints;
  /** Called after points were written, to wake the rollups. */
  readonly onWritten?: () => void;
}

/** A store that is back is asked again before long: the pause counts as time to catch up. */
const MAX_PAUSE_MS = 10_000;
const REVOKED_WITHIN_MS = 5_000;

/**
 * Log to series: every reading of the regions' topics becomes a point, and the ledger says how far it has come and
 * what became of each record. Several recorders share the partitions.
 *
 * The series is written before the offset is stored, so a crash repeats the last writes, which changes nothing.
 * While the series or the ledger is away a partition waits with the batch it holds; nothing is skipped.
 */
export class Recorder implements Service {
  readonly name = "recorder";
  readonly #options: RecorderOptions;
  readonly #dependencies: RecorderDependencies;
  readonly #metrics: RecorderMetrics;
  readonly #regionByTopic: ReadonlyMap<string, string>;
  readonly #claims = new Map<string, Claim>();
  readonly #haltedPartitions = new Set<string>();
  #deadLetters: Appender | undefined;
  #flusher: SeriesFlusher | undefined;
  #member: GroupMember | undefined;
  #watch: NodeJS.Timeout | undefined;
  #watching: Promise<void> | undefined;
  #lastGaps = "[]";

  constructor(options: RecorderOptions, dependencies: RecorderDependencies) {
    this.#options = options;
    this.#dependencies = { ...dependencies, log: dependencies.log.child({ part: "recorder" }) };
    this.#metrics = new RecorderMetrics(dependencies.metrics);
    this.#regionByTopic = new Map(options.regions.map((region) => [regionTopic(region), region]));
  }

  async start(): Promise<void> {
    const { eventLog, onWritten = () => {}, ...rest } = this.#dependencies;
    const { maxPointsPerWrite = 5_000, firstPauseMs = 200, watchEveryMs = 5_000 } = this.#options;
    this.#deadLetters = await eventLog.openAppender();
    this.#flusher = new SeriesFlusher(
      { maxPointsPerWrite, firstPauseMs, maxPauseMs: MAX_PAUSE_MS, revokedWithinMs: REVOKED_WITHIN_MS },
      { ...rest, deadLetters: this.#deadLetters, metrics: this.#metrics, onWritten },
    );
    const handler: PartitionHandler = {
      assigned: (partition) => this.#assigned(partition),
      records: (batch, signal) => this.#records(batch, signal, maxPointsPerWrite),
      revoked: (partition) => this.#revoked(partition),
      halted: (partition, reason) => this.#halted(partition, reason),
    };
    this.#member = await eventLog.join(RECORDER, [...this.#regionByTopic.keys()], handler);
    this.#watch = setInterval(() => {
      this.#watching ??= this.#look().finally(() => (this.#watching = undefined));
    }, watchEveryMs);
  }

  /** Leaves the group, which ends what is under way or gives it up after 5 s; the rest stays in the log. */
  async stop(): Promise<void> {
    clearInterval(this.#watch);
    await Promise.race([this.#watching, delay(REVOKED_WITHIN_MS, undefined, { ref: false })]);
    const [member, deadLetters] = [this.#member, this.#deadLetters];
    this.#member = undefined;
    this.#deadLetters = undefined;
    await member?.stop();
    await deadLetters?.close();
  }

  async #assigned(partition: TopicPartition): Promise<Position | undefined> {
    const claim = await takeOver(this.#dependencies.pool, RECORDER, partition);
    this.#claims.set(keyOf(partition), claim);
    return claim.position;
  }

  async #records(batch: RecordBatch, signal: AbortSignal, maxPoints: number): Promise<void> {
    const region = this.#regionByTopic.get(batch.topic);
    invariant(region !== undefined, "a batch came from a topic that was not joined");
    for (const slice of slicesOf(batch, region, maxPoints)) {
      const claim = this.#claims.get(keyOf(batch));
      invariant(claim !== undefined, "a batch came for a partition that was not assigned");
      this.#claims.set(keyOf(batch), await this.#flusher!.submit(slice, claim, signal));
    }
    await this.#hint(batch);
  }

  /** What a hint misses the next one says: nothing depends on it. */
  async #hint(partition: TopicPartition): Promise<void> {
    const position = this.#claims.get(keyOf(partition))?.position;
    if (position === undefined) return;
    await this.#member?.hint(partition, position).catch((error: unknown) => {
      this.#dependencies.log.debug({ err: error, ...partition }, "hint not stored");
    });
  }

  #revoked(partition: TopicPartition): Promise<void> {
    this.#claims.delete(keyOf(partition));
    this.#metrics.lagRecords.remove({ topic: partition.topic, partition: String(partition.partition) });
    this.#haltedPartitions.delete(keyOf(partition));
    this.#metrics.haltedPartitions.set(this.#haltedPartitions.size);
    return Promise.resolve();
  }

  #halted({ topic, partition }: TopicPartition, reason: PositionMismatch): void {
    this.#haltedPartitions.add(keyOf({ topic, partition }));
    this.#metrics.haltedPartitions.set(this.#haltedPartitions.size);
    const fields = { topic, partition, code: reason.code, detail: reason.message };
    this.#dependencies.log.error(fields, "recording of a partition has halted");
  }

  async #look(): Promise<void> {
    try {
      await this.#measureLag();
      await this.#checkBalance();
    } catch (error) {
      this.#dependencies.log.debug({ err: error }, "lag and balance are not known now");
    }
  }

  async #measureLag(): Promise<void> {
    for (const { topic, partition, position } of this.#claims.values()) {
      const { first, next } = await this.#dependencies.eventLog.bounds({ topic, partition });
      const lag = next - (position?.nextOffset ?? first);
      this.#metrics.lagRecords.set({ topic, partition: String(partition) }, Number(lag));
    }
  }

  /** One line of alarm for each change, not for each look. */
  async #checkBalance(): Promise<void> {
    const gaps = await recorderBalance(this.#dependencies.pool);
    this.#metrics.unbalanced.set(gaps.length);
    const shown = gaps.map((gap) => ({
      topic: gap.topic,
      partition: gap.partition,
      missing: String(gap.nextOffset - gap.beganAt - gap.written - gap.rejected - gap.otherKinds),
    }));
    const text = JSON.stringify(shown);
    if (text === this.#lastGaps) return;
    this.#lastGaps = text;
    if (gaps.length > 0) this.#dependencies.log.error({ gaps: shown }, "records are not accounted for");
    else this.#dependencies.log.info("all records are accounted for again");
  }
}

function keyOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}
