import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type {
  LogRecord,
  PartitionHandler,
  Position,
  PositionMismatch,
  TopicPartition,
} from "../event-log.ts";
import { Cursor, type Fetcher } from "./fetcher.ts";
import type { Claim } from "./membership.ts";
import { markAfter, recordsFrom, type Start } from "./positions.ts";

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;

export interface WorkerDependencies {
  readonly handler: PartitionHandler;
  readonly fetcher: Fetcher;
  readonly log: Logger;
  /** Compares a stored position with the log. */
  readonly locate: (claim: Claim, stored: Position | undefined) => Promise<Start>;
}

/**
 * Runs one partition's handler while this member holds it: assigned, records again and again, revoked. Whatever
 * fails leads to revoked and, after a pause that doubles up to 5 s, to assigned again.
 */
export class PartitionWorker {
  readonly claim: Claim;
  readonly logId: string;
  readonly #topicPartition: TopicPartition;
  readonly #dependencies: WorkerDependencies;
  readonly #log: Logger;
  readonly #abort = new AbortController();
  readonly #stopping: Promise<void>;
  readonly #done: Promise<void>;
  #failures = 0;

  constructor(claim: Claim, logId: string, dependencies: WorkerDependencies) {
    this.claim = claim;
    this.logId = logId;
    this.#topicPartition = { topic: claim.topic, partition: claim.partition };
    this.#dependencies = dependencies;
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
    const { handler, locate } = this.#dependencies;
    const stored = await handler.assigned(this.#topicPartition);
    const start = await locate(this.claim, stored);
    if (this.#abort.signal.aborted) return;
    const mismatch = "mismatch" in start ? start.mismatch : await this.#deliverFrom(start.nextOffset);
    if (mismatch !== undefined) await this.#halt(mismatch);
  }

  /** Delivers until told to stop (undefined) or until the log no longer holds what comes next. */
  async #deliverFrom(nextOffset: bigint): Promise<PositionMismatch | undefined> {
    const { fetcher } = this.#dependencies;
    const cursor = new Cursor(this.#topicPartition, this.claim.topicId, nextOffset);
    const remove = () => fetcher.remove(cursor);
    fetcher.add(cursor);
    this.#abort.signal.addEventListener("abort", remove, { once: true });
    try {
      for (;;) {
        const fetched = await fetcher.next(cursor);
        if (fetched === undefined || this.#abort.signal.aborted) return undefined;
        const found = recordsFrom(cursor.nextOffset, fetched, this.#topicPartition);
        if ("mismatch" in found) return found.mismatch;
        await this.#deliver(found.records);
        cursor.nextOffset = found.records.at(-1)!.offset + 1n;
        this.#delivered();
      }
    } finally {
      this.#abort.signal.removeEventListener("abort", remove);
      remove();
    }
  }

  async #deliver(records: readonly LogRecord[]): Promise<void> {
    const batch = {
      ...this.#topicPartition,
      records,
      positionAfter: (record: LogRecord): Position => ({
        nextOffset: record.offset + 1n,
        mark: markAfter(this.logId, this.claim.topicId, record),
      }),
    };
    await this.#dependencies.handler.records(batch, this.#abort.signal);
  }

  /** Stays idle, holding the partition, until it is taken away or the member stops. */
  async #halt(mismatch: PositionMismatch): Promise<void> {
    this.#log.error({ code: mismatch.code, detail: mismatch.message }, "partition halted");
    this.#dependencies.handler.halted(this.#topicPartition, mismatch);
    await this.#stopping;
  }

  async #revoke(): Promise<void> {
    try {
      await this.#dependencies.handler.revoked(this.#topicPartition);
    } catch (error) {
      this.#log.error({ err: error }, "handler failed to give a partition up");
    }
  }

  #delivered(): void {
    if (this.#failures > 0) this.#log.info({ failures: this.#failures }, "partition goes on");
    this.#failures = 0;
  }

  async #pause(): Promise<void> {
    const pauseMs = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.#failures - 1, 10));
    await delay(pauseMs, undefined, { signal: this.#abort.signal }).catch(() => {});
  }
}
