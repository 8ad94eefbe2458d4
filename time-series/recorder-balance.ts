import type { Queryable } from "../service/database.ts";

/** The recorder's name as a consumer of the log, in the ledger and as a group. */
export const RECORDER = "recorder";

/** A partition whose records are not all accounted for. */
export interface BalanceGap {
  readonly topic: string;
  readonly partition: number;
  /** Records the recorder has passed. */
  readonly nextOffset: bigint;
  /** Records that the log no longer held when the recorder began. */
  readonly beganAt: bigint;
  readonly written: bigint;
  readonly rejected: bigint;
  readonly otherKinds: bigint;
}

/**
 * The partitions in which `nextOffset = beganAt + written + rejected + otherKinds` does not hold; none where nothing
 * has disappeared between log and series. One consistent view, at any moment: offset and counts change together.
 */
export async function recorderBalance(db: Queryable): Promise<readonly BalanceGap[]> {
  const result = await db.query<{
    topic: string;
    partition: number;
    next_offset: bigint;
    began_at: bigint;
    written: bigint;
    rejected: bigint;
    other_kinds: bigint;
  }>(
    `select topic, partition, next_offset, began_at, written, rejected, other_kinds from ledger.consumer_offset
      where consumer = $1 and next_offset <> began_at + written + rejected + other_kinds
      order by topic, partition`,
    [RECORDER],
  );
  return result.rows.map((row) => ({
    topic: row.topic,
    partition: row.partition,
    nextOffset: row.next_offset,
    beganAt: row.began_at,
    written: row.written,
    rejected: row.rejected,
    otherKinds: row.other_kinds,
  }));
}
