import type { Position, TopicPartition } from "../event-log/event-log.ts";
import type { Queryable } from "../service/database.ts";

/** A consumer's hold of one partition, valid until somebody else takes it over. */
export interface Claim extends TopicPartition {
  readonly consumer: string;
  readonly fence: bigint;
  /** Where to go on; `undefined` before the first record. */
  readonly position: Position | undefined;
}

/** Records by what became of them, for `nextOffset = beganAt + written + rejected + otherKinds` (recorder). */
export interface RecordCounts {
  /** Records below the first that was read, in a consumer's first step: retention had dropped them. */
  readonly beganAt?: bigint;
  readonly written: bigint;
  readonly rejected: bigint;
  readonly otherKinds: bigint;
}

const NO_COUNTS: RecordCounts = { written: 0n, rejected: 0n, otherKinds: 0n };

/**
 * Raises the fence of a partition and returns where it stands. Call it in the transaction that reads the state
 * that goes with the offset: from its commit on, the former owner's writes are refused.
 */
export async function takeOver(
  db: Queryable,
  consumer: string,
  { topic, partition }: TopicPartition,
): Promise<Claim> {
  const result = await db.query<{ fence: bigint; next_offset: bigint; mark: string | null }>(
    `insert into ledger.consumer_offset as o (consumer, topic, partition, fence) values ($1, $2, $3, 1)
     on conflict (consumer, topic, partition) do update set fence = o.fence + 1
     returning fence, next_offset, mark`,
    [consumer, topic, partition],
  );
  const row = result.rows[0]!;
  const position = row.mark === null ? undefined : { nextOffset: row.next_offset, mark: row.mark };
  return { consumer, topic, partition, fence: row.fence, position };
}

/**
 * Moves a claim's offset in the transaction of the state it belongs to. `undefined` means that somebody else took
 * over: roll back, discard what is in memory, reload.
 */
export async function advance(
  db: Queryable,
  claim: Claim,
  to: Position,
  counts: RecordCounts = NO_COUNTS,
): Promise<Claim | undefined> {
  const result = await db.query(
    `update ledger.consumer_offset
        set next_offset = $6, mark = $7, written = written + $8, rejected = rejected + $9,
            other_kinds = other_kinds + $10, began_at = began_at + $11
      where consumer = $1 and topic = $2 and partition = $3 and fence = $4 and next_offset = $5`,
    [
      claim.consumer,
      claim.topic,
      claim.partition,
      claim.fence,
      claim.position?.nextOffset ?? 0n,
      to.nextOffset,
      to.mark,
      counts.written,
      counts.rejected,
      counts.otherKinds,
      counts.beganAt ?? 0n,
    ],
  );
  return result.rowCount === 1 ? { ...claim, position: to } : undefined;
}

/**
 * Sends a consumer back to the oldest record that the log holds, in every partition of a topic that it has taken
 * before, and its account of the records with it. Raises the fence: who holds a partition now can store nothing more
 * and begins anew as well, at its next record. Until then retention drops nothing of the topic. Resolves with how many
 * partitions there were. Idempotent; only for consumers whose effects are.
 */
export async function rewind(db: Queryable, consumer: string, topic: string): Promise<number> {
  const result = await db.query(
    `update ledger.consumer_offset
        set fence = fence + 1, next_offset = 0, mark = null, began_at = 0, written = 0, rejected = 0, other_kinds = 0
      where consumer = $1 and topic = $2`,
    [consumer, topic],
  );
  return result.rowCount ?? 0;
}

/** Stored offsets of every partition of a topic, for one consumer or for all; retention keeps what is above the lowest. */
export async function storedOffsets(
  db: Queryable,
  topic: string,
): Promise<readonly { consumer: string; partition: number; nextOffset: bigint }[]> {
  const result = await db.query<{ consumer: string; partition: number; next_offset: bigint }>(
    "select consumer, partition, next_offset from ledger.consumer_offset where topic = $1 order by consumer, partition",
    [topic],
  );
  return result.rows.map((row) => ({
    consumer: row.consumer,
    partition: row.partition,
    nextOffset: row.next_offset,
  }));
}
