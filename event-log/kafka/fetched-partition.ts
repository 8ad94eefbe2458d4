import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { GridrootError } from "../../service/errors.ts";
import type { LogRecord, Position, PositionMismatch, TopicPartition } from "../event-log.ts";
import type { PartitionReader, PartitionSource, Reading, Refusal } from "../partition-worker.ts";
import { type FetchedMessage, toRecord } from "./kafka-records.ts";
import { checkPosition, markAfter, positionAfter, type PositionSource } from "./positions.ts";

/** Where a group's session fetches. */
export interface Fetching {
  /** Fetches a partition from an offset on, again and again until held. */
  from(partition: TopicPartition, offset: bigint): void;
  /** Fetches a partition no more. */
  hold(partition: TopicPartition): void;
}

export interface FetchingDependencies {
  readonly fetching: Fetching;
  readonly positions: PositionSource;
  readonly log: Logger;
}

/** Limits of what a handler gets at a time: records, and bytes of their values. At least one record is always given. */
const BATCH_RECORDS = 5_000;
const BATCH_BYTES = 1_048_576;
/** An idle partition is compared with the log this often, ms. */
const RECHECK_MS = 5_000;
/** A fetch that should be answered at once is, within this time, or the log no longer holds the offset, ms. */
const ANSWER_MS = 3_000;
/** Pause after a comparison that could not be made, ms. */
const RETRY_MS = 500;
/** Fetches that begin elsewhere than asked, though the log fits the position, before the log counts as corrupt. */
const MAX_STRAYS = 5;

/** A partition that a group's session fetches while its handler is free. */
export class FetchedPartition implements PartitionSource {
  readonly topic: string;
  readonly partition: number;
  readonly #dependencies: FetchingDependencies;
  #reader: FetchedReader | undefined;

  constructor(partition: TopicPartition, dependencies: FetchingDependencies) {
    this.topic = partition.topic;
    this.partition = partition.partition;
    this.#dependencies = dependencies;
  }

  async open(stored: Position | undefined): Promise<PartitionReader | Refusal> {
    const { positions } = this.#dependencies;
    if (stored === undefined) return this.#readFrom((await positions.bounds(this)).first, undefined);
    const mismatch = await checkPosition(positions, this, stored);
    return mismatch === undefined ? this.#readFrom(stored.nextOffset, stored.mark) : { mismatch };
  }

  /** Takes what was fetched. Returns at once; what nobody waits for is dropped and fetched again. */
  offer(messages: readonly FetchedMessage[]): void {
    this.#reader?.offer(messages);
  }

  /** The session has joined anew and has forgotten where it fetched. */
  rejoined(): void {
    this.#reader?.rejoined();
  }

  #readFrom(nextOffset: bigint, mark: string | undefined): FetchedReader {
    const { topic, partition } = this;
    this.#reader = new FetchedReader({ topic, partition }, { nextOffset, mark }, this.#dependencies);
    return this.#reader;
  }
}

/** What came of fetching: the records that come next, others, nothing in time, or the end. */
type Outcome = readonly LogRecord[] | "astray" | "silent" | "closed";

/**
 * Reads a partition by fetches of which kafkajs hides how they went: it begins anew at the log's first record when an
 * offset is out of range, and goes on in another topic of the same name as if it were the one before. So every fetch
 * after a pause begins with the record consumed last, which must come back as it was; what begins elsewhere is never
 * delivered, the position is compared with the log instead. The partition is fetched only while its handler waits:
 * one batch in memory, and nothing that a trim or a new topic could overtake.
 */
class FetchedReader implements PartitionReader {
  readonly #partition: TopicPartition;
  readonly #dependencies: FetchingDependencies;
  readonly #closing = new AbortController();
  #nextOffset: bigint;
  /** Of the record before the position; undefined before the first one. */
  #mark: string | undefined;
  /** Fetched and not delivered yet. */
  #rest: readonly LogRecord[] = [];
  /** Offset with which what is fetched has to begin, while somebody waits for it. */
  #expected: bigint | undefined;
  /** Fetches in a row that began elsewhere than asked. */
  #strays = 0;
  #settle: (outcome: Outcome) => void = () => {};
  #timer: NodeJS.Timeout | undefined;

  constructor(
    partition: TopicPartition,
    start: { readonly nextOffset: bigint; readonly mark: string | undefined },
    dependencies: FetchingDependencies,
  ) {
    this.#partition = partition;
    this.#dependencies = dependencies;
    this.#nextOffset = start.nextOffset;
    this.#mark = start.mark;
  }

  async next(): Promise<Reading | undefined> {
    if (this.#rest.length > 0 && !this.#closing.signal.aborted) return { records: this.#passed(this.#rest) };
    for (let compared = false; ; compared = true) {
      const outcome = await this.#fetch(compared);
      if (outcome === "closed") return undefined;
      if (typeof outcome !== "string") return { records: this.#passed(outcome) };
      if (outcome === "astray") this.#strays += 1;
      if (this.#strays > MAX_STRAYS) throw missing(this.#partition, this.#nextOffset);
      const mismatch = await this.#compare();
      if (mismatch !== undefined) return { mismatch };
    }
  }

  positionAfter(record: LogRecord): Position {
    return positionAfter(this.#dependencies.positions.clusterId, record);
  }

  close(): void {
    this.#closing.abort();
    this.#end("closed");
  }

  offer(messages: readonly FetchedMessage[]): void {
    if (this.#expected === undefined || messages.length === 0) return;
    const records = unbroken(messages);
    const [head] = records;
    if (head!.offset !== this.#expected) return this.#end("astray");
    if (this.#expected === this.#nextOffset) return this.#end(records);
    if (markAfter(this.#dependencies.positions.clusterId, head!) !== this.#mark) return this.#end("astray");
    if (records.length > 1) return this.#end(records.slice(1));
    // The log fits and has nothing new: wait for it.
    this.#strays = 0;
    this.#begin(this.#nextOffset);
  }

  rejoined(): void {
    if (this.#expected !== undefined) this.#beginWithLast();
  }

  /** Fetches until an outcome is there; the partition is held by then. */
  #fetch(compared: boolean): Promise<Outcome> {
    if (this.#closing.signal.aborted) return Promise.resolve("closed");
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    this.#settle = resolve;
    if (compared) this.#begin(this.#nextOffset);
    else this.#beginWithLast();
    return promise;
  }

  #beginWithLast(): void {
    this.#begin(this.#mark === undefined ? this.#nextOffset : this.#nextOffset - 1n);
  }

  #begin(offset: bigint): void {
    this.#expected = offset;
    this.#dependencies.fetching.from(this.#partition, offset);
    clearTimeout(this.#timer);
    if (offset !== this.#nextOffset) this.#timer = setTimeout(() => this.#end("silent"), ANSWER_MS);
    else if (this.#mark !== undefined) this.#timer = setTimeout(() => this.#beginWithLast(), RECHECK_MS);
  }

  #end(outcome: Outcome): void {
    clearTimeout(this.#timer);
    if (this.#expected !== undefined) this.#dependencies.fetching.hold(this.#partition);
    this.#expected = undefined;
    this.#settle(outcome);
  }

  /** What of the records is delivered now; the position moves behind it, the rest waits. */
  #passed(records: readonly LogRecord[]): readonly LogRecord[] {
    const count = batchLength(records);
    const last = records[count - 1]!;
    this.#strays = 0;
    this.#nextOffset = last.offset + 1n;
    this.#mark = markAfter(this.#dependencies.positions.clusterId, last);
    this.#rest = records.slice(count);
    return records.slice(0, count);
  }

  /** Compares the position with the log, trying again while the log cannot be read. */
  async #compare(): Promise<PositionMismatch | undefined> {
    const { positions, log } = this.#dependencies;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        const position = { nextOffset: this.#nextOffset, mark: this.#mark };
        return await mismatchOf(positions, this.#partition, position);
      } catch (error) {
        if (error instanceof GridrootError && error.code === "log-moved") throw error;
        log.debug({ err: error, ...this.#partition }, "position cannot be compared with the log yet");
        await delay(RETRY_MS, undefined, { signal }).catch(() => {});
      }
    }
    return undefined;
  }
}

async function mismatchOf(
  positions: PositionSource,
  partition: TopicPartition,
  { nextOffset, mark }: { readonly nextOffset: bigint; readonly mark: string | undefined },
): Promise<PositionMismatch | undefined> {
  if (mark !== undefined) return checkPosition(positions, partition, { nextOffset, mark });
  const { first } = await positions.bounds(partition);
  // Nothing has been consumed yet that could be missed: begin anew with what is the oldest record now.
  if (first !== nextOffset) throw new GridrootError("log-moved", "the oldest record is another one by now");
  return undefined;
}

/** How many of the records one batch takes. */
function batchLength(records: readonly LogRecord[]): number {
  let bytes = 0;
  for (const [index, { value }] of records.entries()) {
    bytes += value.byteLength;
    if (index > 0 && (index === BATCH_RECORDS || bytes > BATCH_BYTES)) return index;
  }
  return records.length;
}

/** The records up to the first offset that is missing. */
function unbroken(messages: readonly FetchedMessage[]): readonly LogRecord[] {
  const records = messages.map(toRecord);
  const end = records.findIndex(({ offset }, index) => offset !== records[0]!.offset + BigInt(index));
  return end === -1 ? records : records.slice(0, end);
}

function missing({ topic, partition }: TopicPartition, offset: bigint): GridrootError {
  return new GridrootError(
    "log-corrupt",
    `offset ${offset} is missing in partition ${partition} of ${topic}`,
  );
}
