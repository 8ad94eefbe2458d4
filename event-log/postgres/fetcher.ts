import type { Logger } from "pino";
import type { TopicPartition } from "../event-log.ts";
import type { LogDatabase } from "./log-database.ts";
import { type Fetched, fetchStored } from "./stored-batches.ts";

export interface FetcherOptions {
  /** Time after which a partition is looked at without any news, ms. */
  readonly pollMs: number;
  /** Limits of what one partition gets at a time. At least one stored batch is always given. */
  readonly batchRecords: number;
  readonly batchBytes: number;
  /** Limit of one statement's answer, shared by the partitions it asks for, bytes. */
  readonly fetchBytes: number;
}

/** Where one consumer stands in one partition, and whether looking there may be worth it. */
export class Cursor {
  readonly topicPartition: TopicPartition;
  readonly topicId: number;
  nextOffset: bigint;
  /** True from the start, after each notification, and while more is known to lie ahead. */
  mayHaveNews = true;
  /** True while a statement asks for it. */
  asked = false;
  waiting: ((fetched: Fetched | undefined) => void) | undefined;

  constructor(topicPartition: TopicPartition, topicId: number, nextOffset: bigint) {
    this.topicPartition = topicPartition;
    this.topicId = topicId;
    this.nextOffset = nextOffset;
  }
}

/** Statements in flight at once, and partitions that one of them asks for. */
const CONCURRENT_FETCHES = 2;
const CURSORS_PER_FETCH = 32;
const MAX_BACKOFF_MS = 2_000;

/**
 * Reads for all consumers of this process: each statement asks for every partition that waits and may have news, so
 * that connections in use do not grow with partitions. A partition whose consumer is busy asks for nothing.
 */
export class Fetcher {
  readonly #options: FetcherOptions;
  readonly #db: LogDatabase;
  readonly #log: Logger;
  readonly #cursors = new Set<Cursor>();
  readonly #inFlight = new Set<Promise<void>>();
  readonly #poll: NodeJS.Timeout;
  #failures = 0;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: FetcherOptions, dependencies: { db: LogDatabase; log: Logger }) {
    this.#options = options;
    this.#db = dependencies.db;
    this.#log = dependencies.log;
    this.#poll = setInterval(() => this.wakeAll(), options.pollMs);
  }

  add(cursor: Cursor): void {
    this.#cursors.add(cursor);
  }

  remove(cursor: Cursor): void {
    this.#cursors.delete(cursor);
    cursor.waiting?.(undefined);
    cursor.waiting = undefined;
  }

  /** Waits for records at the cursor's offset, or for bounds that do not hold it; `undefined` once removed. */
  next(cursor: Cursor): Promise<Fetched | undefined> {
    if (!this.#cursors.has(cursor)) return Promise.resolve(undefined);
    const { promise, resolve } = Promise.withResolvers<Fetched | undefined>();
    cursor.waiting = resolve;
    this.#pump();
    return promise;
  }

  wake(partitions: readonly TopicPartition[]): void {
    const named = new Set(partitions.map(({ topic, partition }) => `${topic}/${partition}`));
    for (const cursor of this.#cursors) {
      const { topic, partition } = cursor.topicPartition;
      if (named.has(`${topic}/${partition}`)) cursor.mayHaveNews = true;
    }
    this.#pump();
  }

  wakeAll(): void {
    for (const cursor of this.#cursors) cursor.mayHaveNews = true;
    this.#pump();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#poll);
    clearTimeout(this.#retry);
    await Promise.all(this.#inFlight);
  }

  #pump(): void {
    while (!this.#closed && this.#retry === undefined && this.#inFlight.size < CONCURRENT_FETCHES) {
      const cursors = this.#take();
      if (cursors.length === 0) return;
      const fetching = this.#fetch(cursors).finally(() => {
        this.#inFlight.delete(fetching);
        this.#pump();
      });
      this.#inFlight.add(fetching);
    }
  }

  /** Cursors to ask for next, each in at most one statement at a time; they go to the back of the queue. */
  #take(): Cursor[] {
    const taken: Cursor[] = [];
    for (const cursor of this.#cursors) {
      if (cursor.waiting === undefined || cursor.asked || !cursor.mayHaveNews) continue;
      taken.push(cursor);
      if (taken.length === CURSORS_PER_FETCH) break;
    }
    for (const cursor of taken) {
      cursor.mayHaveNews = false;
      cursor.asked = true;
      this.#cursors.delete(cursor);
      this.#cursors.add(cursor);
    }
    return taken;
  }

  async #fetch(cursors: readonly Cursor[]): Promise<void> {
    try {
      const fetched = await this.#query(cursors);
      this.#recovered();
      cursors.forEach((cursor, slot) => this.#answer(cursor, fetched[slot]!));
    } catch (error) {
      for (const cursor of cursors) cursor.mayHaveNews = true;
      this.#backOff(error);
    } finally {
      for (const cursor of cursors) cursor.asked = false;
    }
  }

  #query(cursors: readonly Cursor[]): Promise<readonly Fetched[]> {
    const { batchBytes, batchRecords, fetchBytes } = this.#options;
    const wanted = cursors.map(({ topicId, topicPartition, nextOffset }) => ({
      topicId,
      partition: topicPartition.partition,
      fromOffset: nextOffset,
    }));
    const bytes = Math.min(batchBytes, Math.floor(fetchBytes / cursors.length));
    return fetchStored(this.#db, wanted, { bytes, records: batchRecords });
  }

  #answer(cursor: Cursor, fetched: Fetched): void {
    const { bounds, batches } = fetched;
    const nothingNew = batches.length === 0 && bounds?.next === cursor.nextOffset;
    if (nothingNew) return;
    const last = batches.at(-1);
    if (
      last !== undefined &&
      bounds !== undefined &&
      last.baseOffset + BigInt(last.recordCount) < bounds.next
    ) {
      cursor.mayHaveNews = true;
    }
    const { waiting } = cursor;
    cursor.waiting = undefined;
    waiting?.(fetched);
  }

  #recovered(): void {
    if (this.#failures > 0) this.#log.info({ failures: this.#failures }, "event log is read again");
    this.#failures = 0;
  }

  #backOff(error: unknown): void {
    if (this.#failures === 0) this.#log.warn({ err: error }, "event log cannot be read, trying again");
    this.#failures += 1;
    if (this.#closed || this.#retry !== undefined) return;
    const delayMs = Math.min(MAX_BACKOFF_MS, 100 * 2 ** Math.min(this.#failures, 10));
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#pump();
    }, delayMs);
  }
}
