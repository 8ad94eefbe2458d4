import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { LogRecord, PartitionHandler, Position, PositionMismatch, TopicPartition } from "./event-log.ts";

/** Why reading cannot go on where the handler stands. */
export interface Refusal {
  readonly mismatch: PositionMismatch;
}

/** Records that come next, at least one, or why there are none. */
export type Reading = { readonly records: readonly LogRecord[] } | Refusal;

/** Reads one partition on from a position that fits its log. */
export interface PartitionReader {
  /**
   * Waits for the records that come next; asking again says that the handler is done with those of the last answer.
   * Undefined once closed.
   */
  next(): Promise<Reading | undefined>;
  positionAfter(record: LogRecord): Position;
  /** Ends a `next` that waits. Idempotent. */
  close(): void;
}

/** What an adapter knows about a partition that it holds. */
export interface PartitionSource extends TopicPartition {
  /**
   * Compares a stored position with the log and reads on from there. Rejects when the log cannot be read, which is no
   * mismatch yet.
   */
  open(stored: Position | undefined): Promise<PartitionReader | Refusal>;
}

export interface WorkerOptions {
  /** Pause after the first failure, ms; it doubles with each that follows, up to 5 s. */
  readonly retryPauseMs: number;
}

export interface WorkerDependencies {
  readonly handler: PartitionHandler;
  readonly log: Logger;
}

const MAX_PAUSE_MS = 5_000;

/**
 * Runs one partition's handler while this member holds it: assigned, records again and again, revoked. Whatever
 * fails leads to revoked and, after a pause, to assigned again.
 */
export class PartitionWorker<Source extends PartitionSource> {
  readonly source: Source;
  readonly #topicPartition: TopicPartition;
  readonly #options: WorkerOptions;
  readonly #handler: PartitionHandler;
  readonly #log: Logger;
  readonly #abort = new AbortController();
  readonly #stopping: Promise<void>;
  readonly #done: Promise<void>;
  #failures = 0;

  constructor(source: Source, options: WorkerOptions, dependencies: WorkerDependencies) {
    this.source = source;
    this.#topicPartition = { topic: source.topic, partition: source.partition };
    this.#options = options;
    this.#handler = dependencies.handler;
    this.#log = dependencies.log.child(this.#topicPartition);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stopping = promise;
    this.#abort.signal.addEventListener("abort", () => resolve(), { once: true });
    this.#done = this.#run();
  }

  /** Aborts what is pending and resolves once `revoked` has settled. */
  stop(): Promise<void> {
    this.#abort.abort();
    return this.#done;
  }

  async #run(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      try {
        await this.#hold();
      } catch (error) {
        this.#failures += 1;
        const level = this.#failures === 1 ? "warn" : "debug";
        this.#log[level]({ err: error }, "partition failed, assigned anew after a pause");
      }
      await this.#revoke();
      await this.#pause();
    }
  }

  /** From assigned to the point where the partition must be given up or has failed. */
  async #hold(): Promise<void> {
    const stored = await this.#handler.assigned(this.#topicPartition);
    const opened = await this.source.open(stored);
    const mismatch = "mismatch" in opened ? opened.mismatch : await this.#deliverFrom(opened);
    if (mismatch !== undefined && !this.#abort.signal.aborted) await this.#halt(mismatch);
  }

  /** Delivers until told to stop (undefined) or until the log no longer holds what comes next. */
  async #deliverFrom(reader: PartitionReader): Promise<PositionMismatch | undefined> {
    const { signal } = this.#abort;
    const close = () => reader.close();
    signal.addEventListener("abort", close, { once: true });
    try {
      while (!signal.aborted) {
        const reading = await reader.next();
        if (reading === undefined || signal.aborted) return undefined;
        if ("mismatch" in reading) return reading.mismatch;
        await this.#deliver(reading.records, reader);
        this.#delivered();
      }
      return undefined;
    } finally {
      signal.removeEventListener("abort", close);
      close();
    }
  }

  async #deliver(records: readonly LogRecord[], reader: PartitionReader): Promise<void> {
    const positionAfter = (record: LogRecord) => reader.positionAfter(record);
    await this.#handler.records({ ...this.#topicPartition, records, positionAfter }, this.#abort.signal);
  }

  /** Stays idle, holding the partition, until it is taken away or the member stops. */
  async #halt(mismatch: PositionMismatch): Promise<void> {
    this.#log.error({ code: mismatch.code, detail: mismatch.message }, "partition halted");
    this.#handler.halted(this.#topicPartition, mismatch);
    await this.#stopping;
  }

  async #revoke(): Promise<void> {
    try {
      await this.#handler.revoked(this.#topicPartition);
    } catch (error) {
      this.#log.error({ err: error }, "handler failed to give a partition up");
    }
  }

  #delivered(): void {
    if (this.#failures > 0) this.#log.info({ failures: this.#failures }, "partition goes on");
    this.#failures = 0;
  }

  async #pause(): Promise<void> {
    const doublings = Math.min(Math.max(this.#failures - 1, 0), 10);
    const pauseMs = Math.min(MAX_PAUSE_MS, this.#options.retryPauseMs * 2 ** doublings);
    await delay(pauseMs, undefined, { signal: this.#abort.signal }).catch(() => {});
  }
}
