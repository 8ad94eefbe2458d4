import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { ReadingOutcome } from "../domain/metering/apply-reading.ts";

const SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10];

/** What the aggregator counts. No label is a meter. */
export class AggregatorMetrics {
  readonly unreadable: Counter;
  readonly flushDuration: Histogram;
  readonly sealDuration: Histogram;
  readonly batchesSealed: Counter<"region">;
  readonly intervalsSkipped: Counter<"region">;
  readonly barriersLowered: Counter<"region">;
  readonly sealFailures: Counter;
  readonly jobsAvailable: Gauge;
  readonly pausedPartitions: Gauge;
  readonly haltedPartitions: Gauge;
  readonly #readings: Counter<"outcome">;
  readonly #quarantined: Counter<"reason">;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#readings = new Counter({
      name: "aggregator_readings_total",
      help: "Readings taken from the log, by what became of them",
      labelNames: ["outcome"],
      registers,
    });
    this.#quarantined = new Counter({
      name: "aggregator_quarantined_readings_total",
      help: "Readings set aside, by reason",
      labelNames: ["reason"],
      registers,
    });
    this.unreadable = new Counter({
      name: "aggregator_unreadable_records_total",
      help: "Records of the log that could not be read",
      registers,
    });
    this.flushDuration = new Histogram({
      name: "aggregator_flush_duration_seconds",
      help: "Time to write a partition's states and offset",
      buckets: SECONDS,
      registers,
    });
    this.sealDuration = new Histogram({
      name: "aggregator_seal_duration_seconds",
      help: "Time to build and store a batch",
      buckets: SECONDS,
      registers,
    });
    this.batchesSealed = new Counter({
      name: "aggregator_batches_sealed_total",
      help: "Batches sealed",
      labelNames: ["region"],
      registers,
    });
    this.intervalsSkipped = new Counter({
      name: "aggregator_silences_skipped_total",
      help: "Runs of intervals passed over because the whole region was silent",
      labelNames: ["region"],
      registers,
    });
    this.barriersLowered = new Counter({
      name: "aggregator_barriers_lowered_total",
      help: "Barriers lowered to where a partition pauses",
      labelNames: ["region"],
      registers,
    });
    this.sealFailures = new Counter({
      name: "aggregator_seal_failures_total",
      help: "Seal jobs that failed and are retried",
      registers,
    });
    this.jobsAvailable = new Gauge({
      name: "aggregator_jobs_available",
      help: "1 while the store of the seal jobs answers, else 0: then sealing waits",
      registers,
    });
    this.pausedPartitions = new Gauge({
      name: "aggregator_paused_partitions",
      help: "Partitions that wait for a seal before they open another boundary",
      registers,
    });
    this.haltedPartitions = new Gauge({
      name: "aggregator_halted_partitions",
      help: "Partitions whose stored offset does not fit the log; an operator has to act",
      registers,
    });
  }

  /** Counts what became of a reading. */
  count(outcome: ReadingOutcome): void {
    this.#readings.inc({ outcome: outcome.kind });
    if (outcome.kind === "quarantined") this.#quarantined.inc({ reason: outcome.reason });
  }
}
