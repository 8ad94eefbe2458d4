import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** What the recorder tells Prometheus. `topic` and `partition` are as many as the log has partitions. */
export class RecorderMetrics {
  readonly records: Counter<"outcome">;
  readonly readings: Counter;
  readonly failures: Counter<"step">;
  readonly lastingFailures: Gauge;
  readonly flushSeconds: Histogram;
  readonly lagRecords: Gauge<"topic" | "partition">;
  readonly unbalanced: Gauge;
  readonly haltedPartitions: Gauge;

  constructor(registry: Registry) {
    const registers = [registry];
    this.records = new Counter({
      name: "recorder_records_total",
      help: "Records passed, by what became of them: written, rejected, other.",
      labelNames: ["outcome"],
      registers,
    });
    this.readings = new Counter({
      name: "recorder_readings_total",
      help: "Readings written to the series, repetitions included.",
      registers,
    });
    this.failures = new Counter({
      name: "recorder_failures_total",
      help: "Attempts that failed and are repeated, by step: series, dead-letters, ledger.",
      labelNames: ["step"],
      registers,
    });
    this.lastingFailures = new Gauge({
      name: "recorder_lasting_failures",
      help: "1 while recording fails for a reason that repeating alone does not cure: an operator must look.",
      registers,
    });
    this.flushSeconds = new Histogram({
      name: "recorder_flush_duration_seconds",
      help: "Time from handing points to the series to the stored offset, repetitions included.",
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300],
      registers,
    });
    this.lagRecords = new Gauge({
      name: "recorder_lag_records",
      help: "Records of a partition that are not in the series yet.",
      labelNames: ["topic", "partition"],
      registers,
    });
    this.haltedPartitions = new Gauge({
      name: "recorder_halted_partitions",
      help: "Partitions whose stored offset does not fit the log; an operator has to act.",
      registers,
    });
    this.unbalanced = new Gauge({
      name: "recorder_unbalanced_partitions",
      help: "Partitions in which next offset and counted records differ: something disappeared.",
      registers,
    });
  }
}
