import type { PartitionBounds } from "../event-log.ts";
import type { LogDatabase } from "./log-database.ts";
import type { StoredBatch } from "./packed-batch.ts";

/** What is wanted of one partition. */
export interface Wanted {
  readonly topicId: number;
  readonly partition: number;
  readonly fromOffset: bigint;
}

/** Bounds of a partition and batches from the offset on; `bounds` is undefined when the topic is gone. */
export interface Fetched {
  readonly bounds: PartitionBounds | undefined;
  readonly batches: readonly StoredBatch[];
}

/** Stored batches looked at for one partition. */
const BATCHES_PER_PARTITION = 512;

interface Row {
  readonly slot: bigint;
  readonly first_offset: bigint | null;
  readonly next_offset: bigint | null;
  readonly base_offset: bigint | null;
  readonly record_count: number;
  readonly append_time_ms: bigint;
  readonly records: Buffer;
}

/**
 * $1 topic ids, $2 partitions, $3 offsets, $4 bytes and $5 records per partition, of which the first batch is given
 * whatever its size. A batch may begin before the offset asked for; there is none where the bounds do not hold it.
 * One statement has one snapshot, so bounds and batches agree.
 */
const FETCH = `
  select i.slot, h.first_offset, h.next_offset, b.base_offset, b.record_count, b.append_time_ms, b.records
    from unnest($1::integer[], $2::integer[], $3::bigint[]) with ordinality as i (topic_id, partition, from_offset, slot)
    left join head h on h.topic_id = i.topic_id and h.partition = i.partition
    left join lateral (
      select *
        from (select c.*, row_number() over w as place, sum(c.byte_count) over w as bytes_through,
                     sum(c.record_count) over w as records_through
                from (select base_offset, record_count, byte_count, append_time_ms, records
                        from batch
                       where batch.topic_id = i.topic_id and batch.partition = i.partition
                         and base_offset >= coalesce((
                           select max(base_offset) from batch
                            where batch.topic_id = i.topic_id and batch.partition = i.partition
                              and base_offset <= i.from_offset), 0)
                       order by base_offset limit ${BATCHES_PER_PARTITION}) c
              window w as (order by c.base_offset)) d
       where d.place = 1 or (d.bytes_through <= $4 and d.records_through <= $5)
    ) b on h.first_offset <= i.from_offset and h.next_offset > i.from_offset
   order by i.slot, b.base_offset`;

/** Reads stored batches of several partitions by one statement; the answers are in the order of `wanted`. */
export async function fetchStored(
  db: LogDatabase,
  wanted: readonly Wanted[],
  limits: { readonly bytes: number; readonly records: number },
): Promise<readonly Fetched[]> {
  const values = [
    wanted.map(({ topicId }) => topicId),
    wanted.map(({ partition }) => partition),
    wanted.map(({ fromOffset }) => fromOffset),
    limits.bytes,
    limits.records,
  ];
  const rows = await db.query<Row>(FETCH, values, "gridroot-log-fetch");
  const fetched = wanted.map((): { bounds: PartitionBounds | undefined; batches: StoredBatch[] } => ({
    bounds: undefined,
    batches: [],
  }));
  for (const row of rows) {
    const slot = fetched[Number(row.slot) - 1]!;
    if (row.first_offset === null || row.next_offset === null) continue;
    slot.bounds = { first: row.first_offset, next: row.next_offset };
    if (row.base_offset === null) continue;
    slot.batches.push({
      baseOffset: row.base_offset,
      recordCount: row.record_count,
      appendTimeMs: Number(row.append_time_ms),
      bytes: row.records,
    });
  }
  return fetched;
}
