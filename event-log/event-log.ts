/**
 * The port of the event log: partitions of records that are durable before an append resolves, read in offset
 * order by groups of consumers that keep their own positions in the ledger.
 */

/** One partition of a topic. */
export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

/** A record to be appended. `value` is kept byte by byte. */
export interface NewRecord extends TopicPartition {
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly value: Uint8Array;
}

/** A record as read back. Offsets of a partition rise by one; `appendTimeMs` never falls along them. */
export interface LogRecord {
  readonly offset: bigint;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly value: Uint8Array;
  /** The log's own clock at the append, unix ms. */
  readonly appendTimeMs: number;
}

/**
 * Where a consumer stands. `mark` is opaque and binds the offset to this very log, so that a truncated or
 * recreated log is noticed instead of being skipped.
 */
export interface Position {
  readonly nextOffset: bigint;
  readonly mark: string;
}

/** Records of one partition, in offset order, without gaps after the last delivery. */
export interface RecordBatch extends TopicPartition {
  readonly records: readonly LogRecord[];
  /** The position just after a record of this batch. */
  positionAfter(record: LogRecord): Position;
}

/** Writes with one append in flight: callers batch, then await. */
export interface Appender {
  /**
   * Resolves once every record is durable, in the order given within each partition. Rejects with `append-failed`
   * (retryable) within a bound when the log does not confirm; the outcome is unknown then: the caller appends again,
   * and readers may see a record twice. Rejects with `log-partition-missing` where a partition does not exist. A
   * second call before the first has settled throws.
   */
  append(records: readonly NewRecord[]): Promise<void>;
  close(): Promise<void>;
}

/** What a member of a group does with its partitions. Calls for one partition never overlap. */
export interface PartitionHandler {
  /**
   * The partition is now this member's: load state and return the stored position, or `undefined` to begin with
   * the oldest record.
   */
  assigned(partition: TopicPartition): Promise<Position | undefined>;
  /**
   * Takes a batch. May stay pending as long as it needs, which holds back this partition and no other.
   * `signal` aborts when the partition is about to be revoked or the member stops. Rejecting revokes the
   * partition and assigns it anew after a pause, so that state is reloaded.
   */
  records(batch: RecordBatch, signal: AbortSignal): Promise<void>;
  /** The partition is no longer this member's. Called once for every resolved or rejected `assigned`. */
  revoked(partition: TopicPartition): Promise<void>;
  /** The stored position does not fit this log: the partition halts until an operator acts. */
  halted(partition: TopicPartition, reason: PositionMismatch): void;
}

/** Why a stored position is refused. */
export interface PositionMismatch {
  readonly code: "log-recreated" | "log-truncated" | "log-trimmed";
  readonly message: string;
}

export interface GroupMember {
  /** Tells tools how far the group has come. Only a hint: positions are read from `assigned`. */
  hint(partition: TopicPartition, position: Position): Promise<void>;
  /** Aborts what is pending, waits for it, calls `revoked` for each partition and leaves the group. */
  stop(): Promise<void>;
}

export interface TopicSpec {
  readonly topic: string;
  readonly partitions: number;
}

/** The offsets a partition holds: `first` <= offset < `next`. */
export interface PartitionBounds {
  readonly first: bigint;
  readonly next: bigint;
}

export interface EventLog {
  /**
   * Creates what is missing. Idempotent. A differing partition count is refused with `topic-partitions`: keys would
   * move.
   */
  ensureTopics(topics: readonly TopicSpec[]): Promise<void>;
  openAppender(): Promise<Appender>;
  bounds(partition: TopicPartition): Promise<PartitionBounds>;
  /**
   * The first offset with an append time later than `appendTimeMs`, or `next` where there is none yet. For an instant
   * that has passed on the log's clock the answer stays true: no later append gets such a time at or above it.
   */
  offsetAfter(partition: TopicPartition, appendTimeMs: number): Promise<bigint>;
  /**
   * Up to `maxRecords` durable records from `fromOffset` (or the first that is held) on, for tools; an empty array at
   * the end.
   */
  read(partition: TopicPartition, fromOffset: bigint, maxRecords: number): Promise<readonly LogRecord[]>;
  /** Joins a group: its members share the partitions of `topics`, each partition has one owner at a time. */
  join(group: string, topics: readonly string[], handler: PartitionHandler): Promise<GroupMember>;
  /**
   * Drops records below an offset, and may keep some that were appended together with those at it. The caller passes
   * no more than the lowest stored position. Idempotent; never goes back.
   */
  trim(partition: TopicPartition, belowOffset: bigint): Promise<void>;
  close(): Promise<void>;
}

/**
 * The partition of a key: FNV-1a, 32 bit, over its UTF-8 bytes, modulo the partition count. Readings are placed
 * by service point, so that the meters that follow one another at it share a partition and so an order.
 */
export function partitionOf(servicePoint: string, partitions: number): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(servicePoint)) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return hash % partitions;
}
