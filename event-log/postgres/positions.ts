import { GridrootError } from "../../service/errors.ts";
import type { LogRecord, PartitionBounds, Position, PositionMismatch, TopicPartition } from "../event-log.ts";
import type { LogDatabase } from "./log-database.ts";
import { unpackBatch } from "./packed-batch.ts";
import type { Fetched } from "./stored-batches.ts";

/** What a mark names: the log's uuid, the topic's incarnation, the append time of the record before the position. */
export function markAfter(logId: string, topicId: number, record: LogRecord): string {
  return `${logId}/${topicId}/${record.appendTimeMs}`;
}

/** A place of which it is known that the log holds it, or why it does not. */
export type Start = { readonly nextOffset: bigint } | { readonly mismatch: PositionMismatch };

/** Bounds, and append time of the record before $3: $1 topic id, $2 partition. */
const LOOK_UP = `
  select h.first_offset, h.next_offset,
         (select append_time_ms from batch
           where batch.topic_id = $1 and batch.partition = $2 and base_offset < $3
           order by base_offset desc limit 1) as before_ms
    from head h where h.topic_id = $1 and h.partition = $2`;

/**
 * Compares a stored position with the log. Rejects when the log cannot be read or the topic has just gone, which is
 * no mismatch yet.
 */
export async function locate(
  db: LogDatabase,
  logId: string,
  partition: TopicPartition & { readonly topicId: number },
  stored: Position | undefined,
): Promise<Start> {
  const rows = await db.query<{ first_offset: bigint; next_offset: bigint; before_ms: bigint | null }>(
    LOOK_UP,
    [partition.topicId, partition.partition, stored?.nextOffset ?? 0n],
  );
  const row = rows[0];
  if (row === undefined) throw topicGone(partition);
  const bounds = { first: row.first_offset, next: row.next_offset };
  if (stored === undefined) return { nextOffset: bounds.first };
  const [storedLogId, storedTopicId, storedMs] = stored.mark.split("/");
  if (storedLogId !== logId || Number(storedTopicId) !== partition.topicId) {
    return mismatch("log-recreated", `the stored offset ${stored.nextOffset} belongs to another log`);
  }
  const outside = outOfBounds(stored.nextOffset, bounds);
  if (outside !== undefined) return outside;
  // A log restored from a backup and written since has the same identity and length, but not the same times.
  const beforeIsHeld = stored.nextOffset > bounds.first;
  if (beforeIsHeld && row.before_ms !== BigInt(storedMs ?? -1)) {
    return mismatch("log-truncated", `the record before offset ${stored.nextOffset} is not the one consumed`);
  }
  return { nextOffset: stored.nextOffset };
}

/**
 * The records of an answer from `nextOffset` on, or the mismatch it shows. Throws `log-corrupt` where offsets are
 * missing between the bounds.
 */
export function recordsFrom(
  nextOffset: bigint,
  fetched: Fetched,
  partition: TopicPartition,
): { readonly records: readonly LogRecord[] } | { readonly mismatch: PositionMismatch } {
  if (fetched.bounds === undefined) throw topicGone(partition);
  const outside = outOfBounds(nextOffset, fetched.bounds);
  if (outside !== undefined) return outside;
  const records: LogRecord[] = [];
  let expected = nextOffset;
  for (const batch of fetched.batches) {
    const end = batch.baseOffset + BigInt(batch.recordCount);
    if (batch.baseOffset > expected || end <= expected) break;
    for (const record of unpackBatch(batch, expected)) records.push(record);
    expected = end;
  }
  if (records.length === 0 || expected < (fetched.batches.at(-1)?.baseOffset ?? 0n)) {
    throw new GridrootError("log-corrupt", `offset ${expected} is missing in the event log`);
  }
  return { records };
}

function outOfBounds(
  nextOffset: bigint,
  { first, next }: PartitionBounds,
): { readonly mismatch: PositionMismatch } | undefined {
  if (nextOffset > next) {
    return mismatch("log-truncated", `the log ends at ${next}, before the stored offset ${nextOffset}`);
  }
  if (nextOffset < first) {
    return mismatch("log-trimmed", `the log begins at ${first}, after the stored offset ${nextOffset}`);
  }
  return undefined;
}

function mismatch(code: PositionMismatch["code"], message: string): { readonly mismatch: PositionMismatch } {
  return { mismatch: { code, message } };
}

function topicGone({ topic }: TopicPartition): GridrootError {
  return new GridrootError("topic-gone", `topic ${topic} is no longer what it was`, { retryable: true });
}
