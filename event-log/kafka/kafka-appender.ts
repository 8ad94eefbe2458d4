import type { Logger } from "pino";
import { GridrootError, invariant } from "../../service/errors.ts";
import { type FaultPoints, noFaults } from "../../service/faults.ts";
import type { Appender, NewRecord } from "../event-log.ts";
import type { KafkaConnection } from "./kafka-connection.ts";
import { type ProduceLimits, produceRequests } from "./produce-requests.ts";
import { ProducerLane } from "./producer-lane.ts";

export interface KafkaAppenderOptions {
  /** Bound of one append, connecting and sending again included, ms. */
  readonly appendTimeoutMs: number;
  /** Producers over which partitions are spread. */
  readonly producers: number;
}

/**
 * Below the `max.message.bytes` with which topics are made, and what kafkajs encodes without long pauses. A batch of a
 * few readings costs writers and readers more to pack and unpack than all the rest; what grows with the load is packed.
 */
const LIMITS: ProduceLimits = {
  compressFromBytes: 16_384,
  batchBytes: 1_000_000,
  batchRecords: 1_000,
  requestBytes: 4_000_000,
};

/**
 * Appends by several producers, each with the partitions that are its share. Rejects with `append-failed` (retryable,
 * outcome unknown) when the brokers have not confirmed everything within the bound: an orderly move of a leader takes
 * less, the death of one may take longer; with `log-partition-missing` where a partition does not exist and with `record-too-large`, records of
 * other partitions may have been appended then.
 */
export class KafkaAppender implements Appender {
  readonly #appendTimeoutMs: number;
  readonly #lanes: readonly ProducerLane[];
  readonly #faults: FaultPoints;
  #pending: Promise<void> | undefined;
  #closed = false;

  constructor(
    options: KafkaAppenderOptions,
    dependencies: { connection: KafkaConnection; log: Logger; faults?: FaultPoints },
  ) {
    this.#appendTimeoutMs = options.appendTimeoutMs;
    this.#lanes = Array.from({ length: options.producers }, (_, at) => new ProducerLane(at, dependencies));
    this.#faults = dependencies.faults ?? noFaults;
  }

  append(records: readonly NewRecord[]): Promise<void> {
    invariant(this.#pending === undefined, "an append was called while another is in flight");
    invariant(!this.#closed, "an append was called on a closed appender");
    if (records.length === 0) return Promise.resolve();
    this.#pending = this.#append(records).finally(() => (this.#pending = undefined));
    return this.#pending;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#pending?.catch(() => {});
    await Promise.all(this.#lanes.map((lane) => lane.close()));
  }

  async #append(records: readonly NewRecord[]): Promise<void> {
    this.#faults.hit("event-log.before-append");
    const deadline = performance.now() + this.#appendTimeoutMs;
    const shares = this.#lanes.map((_, at) =>
      records.filter(({ partition }) => partition % this.#lanes.length === at),
    );
    // All have ended before the append does: nothing is in flight when the caller appends again.
    const outcomes = await Promise.allSettled(
      this.#lanes.map((lane, at) => lane.send(produceRequests(shares[at]!, LIMITS), deadline)),
    );
    const failures = outcomes
      .filter((outcome) => outcome.status === "rejected")
      .map(({ reason }) => reason as unknown);
    if (failures.length > 0) throw appendError(failures);
    this.#faults.hit("event-log.after-append");
  }
}

/** Errors for which appending again cannot help. */
const FINAL = ["log-partition-missing", "record-too-large"];

function appendError(failures: readonly unknown[]): GridrootError {
  const final = failures.find((failure) => failure instanceof GridrootError && FINAL.includes(failure.code));
  if (final !== undefined) return final as GridrootError;
  return new GridrootError("append-failed", "the event log did not confirm an append", {
    cause: failures[0],
    retryable: true,
  });
}
