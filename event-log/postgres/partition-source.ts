import type { LogRecord, Position, TopicPartition } from "../event-log.ts";
import type { PartitionReader, PartitionSource, Reading, Refusal } from "../partition-worker.ts";
import { Cursor, type Fetcher } from "./fetcher.ts";
import type { LogDatabase } from "./log-database.ts";
import type { Claim } from "./membership.ts";
import { locate, markAfter, recordsFrom } from "./positions.ts";

export interface SourceDependencies {
  readonly db: LogDatabase;
  readonly fetcher: Fetcher;
}

/** A partition held by a claim, read from the log of an identity. */
export class ClaimedPartition implements PartitionSource {
  readonly topic: string;
  readonly partition: number;
  readonly claim: Claim;
  readonly logId: string;
  readonly #dependencies: SourceDependencies;

  constructor(claim: Claim, logId: string, dependencies: SourceDependencies) {
    this.topic = claim.topic;
    this.partition = claim.partition;
    this.claim = claim;
    this.logId = logId;
    this.#dependencies = dependencies;
  }

  async open(stored: Position | undefined): Promise<PartitionReader | Refusal> {
    const { db, fetcher } = this.#dependencies;
    const start = await locate(db, this.logId, this.claim, stored);
    return "mismatch" in start ? start : new ClaimReader(this, start.nextOffset, fetcher);
  }
}

class ClaimReader implements PartitionReader {
  readonly #source: ClaimedPartition;
  readonly #topicPartition: TopicPartition;
  readonly #fetcher: Fetcher;
  readonly #cursor: Cursor;
  #nextOffset: bigint;

  constructor(source: ClaimedPartition, nextOffset: bigint, fetcher: Fetcher) {
    const { topic, partition, claim } = source;
    this.#source = source;
    this.#topicPartition = { topic, partition };
    this.#fetcher = fetcher;
    this.#nextOffset = nextOffset;
    this.#cursor = new Cursor(this.#topicPartition, claim.topicId, nextOffset);
    fetcher.add(this.#cursor);
  }

  async next(): Promise<Reading | undefined> {
    this.#cursor.nextOffset = this.#nextOffset;
    const fetched = await this.#fetcher.next(this.#cursor);
    if (fetched === undefined) return undefined;
    const reading = recordsFrom(this.#nextOffset, fetched, this.#topicPartition);
    if ("records" in reading) this.#nextOffset = reading.records.at(-1)!.offset + 1n;
    return reading;
  }

  positionAfter(record: LogRecord): Position {
    const { logId, claim } = this.#source;
    return { nextOffset: record.offset + 1n, mark: markAfter(logId, claim.topicId, record) };
  }

  close(): void {
    this.#fetcher.remove(this.#cursor);
  }
}
