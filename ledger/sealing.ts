import { promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import type { Batch as BuiltBatch } from "../domain/settlement/batch.ts";
import type { Connection, Queryable } from "../service/database.ts";
import { type BatchKey, bytesOf } from "./batches.ts";

/** NOTIFY channel on which a region's new barrier is announced: the partitions below it flush at once. */
export const BARRIERS_CHANNEL = "barriers";

/** The consumer name under which the aggregator's offsets are stored. */
export const AGGREGATOR = "aggregator";

/** The append time of the first record with a reading in an interval, unix ms. */
export interface IntervalOpening {
  readonly interval: number;
  readonly firstAppendMs: number;
}

/** Notes openings; the earliest append time of an interval stays. Idempotent, in any order. */
export async function saveOpenings(
  db: Queryable,
  regionId: number,
  openings: readonly IntervalOpening[],
): Promise<void> {
  await db.query(
    `insert into ledger.interval_opening as o (region_id, interval_end, first_append_ms)
     select $1, * from unnest($2::bigint[], $3::bigint[])
     on conflict (region_id, interval_end) do update set first_append_ms = excluded.first_append_ms
       where excluded.first_append_ms < o.first_append_ms`,
    [regionId, openings.map(({ interval }) => interval), openings.map(({ firstAppendMs }) => firstAppendMs)],
  );
}

/** Openings of intervals after `sealedUntil`, by interval. */
export async function loadOpenings(
  db: Queryable,
  regionId: number,
  sealedUntil: number,
): Promise<readonly IntervalOpening[]> {
  const result = await db.query<{ interval_end: bigint; first_append_ms: bigint }>(
    `select interval_end, first_append_ms from ledger.interval_opening
      where region_id = $1 and interval_end > $2 order by interval_end`,
    [regionId, sealedUntil],
  );
  return result.rows.map((row) => ({
    interval: Number(row.interval_end),
    firstAppendMs: Number(row.first_append_ms),
  }));
}

/** One partition's part of a barrier. */
export interface Barrier {
  readonly interval: number;
  readonly partition: number;
  readonly nextOffset: bigint;
}

/** Stores a barrier unless there is one already: it is determined once. */
export async function saveBarrier(
  db: Queryable,
  regionId: number,
  barriers: readonly Barrier[],
): Promise<void> {
  await db.query(
    `insert into ledger.seal_barrier (region_id, interval_end, partition, next_offset)
     select $1, * from unnest($2::bigint[], $3::integer[], $4::bigint[]) on conflict do nothing`,
    [
      regionId,
      barriers.map(({ interval }) => interval),
      barriers.map(({ partition }) => partition),
      barriers.map(({ nextOffset }) => nextOffset),
    ],
  );
}

/** Barriers of intervals after `sealedUntil`. */
export async function loadBarriers(
  db: Queryable,
  regionId: number,
  sealedUntil: number,
): Promise<readonly Barrier[]> {
  const result = await db.query<{ interval_end: bigint; partition: number; next_offset: bigint }>(
    `select interval_end, partition, next_offset from ledger.seal_barrier
      where region_id = $1 and interval_end > $2 order by interval_end, partition`,
    [regionId, sealedUntil],
  );
  return result.rows.map((row) => ({
    interval: Number(row.interval_end),
    partition: row.partition,
    nextOffset: row.next_offset,
  }));
}

/** Lowers a barrier to where its partition pauses, and keeps what it was (docs/decisions/0003). */
export async function lowerBarrier(
  connection: Connection,
  regionId: number,
  { interval, partition, nextOffset }: Barrier,
): Promise<void> {
  await connection.query(
    `update ledger.seal_barrier set next_offset = $4, lowered_from = coalesce(lowered_from, next_offset)
      where region_id = $1 and interval_end = $2 and partition = $3 and next_offset > $4`,
    [regionId, interval, partition, nextOffset],
  );
}

/** Drops what served to seal intervals up to `sealedUntil`, save lowered barriers. */
export async function forgetSealed(
  connection: Connection,
  regionId: number,
  sealedUntil: number,
): Promise<void> {
  await connection.query("delete from ledger.interval_opening where region_id = $1 and interval_end <= $2", [
    regionId,
    sealedUntil,
  ]);
  await connection.query(
    "delete from ledger.seal_barrier where region_id = $1 and interval_end <= $2 and lowered_from is null",
    [regionId, sealedUntil],
  );
}

/** The region's newest batch that is not void and ends at or before `until`. */
export async function findBatchUntil(
  db: Queryable,
  regionId: number,
  until: number,
): Promise<BatchKey | undefined> {
  const result = await db.query<{ round: number; interval_end: bigint }>(
    `select round, interval_end from ledger.batch
      where region_id = $1 and interval_end <= $2 and voided_ms is null
      order by interval_end desc, round desc limit 1`,
    [regionId, until],
  );
  const row = result.rows[0];
  return row && { regionId, round: row.round, interval: Number(row.interval_end) };
}

const compress = promisify(zstdCompress);

/** Inserts a batch and its evidence. Rejects with a unique violation where the interval has one in this round. */
export async function insertBatch(
  connection: Connection,
  { content, contentHash, evidence, file }: BuiltBatch,
  sealedMs: number,
): Promise<void> {
  const heldWh = evidence.accounts.reduce((sum, account) => sum + account.heldWh, 0n);
  await connection.query(
    `insert into ledger.batch (region_id, round, interval_end, prev_interval, prev_root, root, interval_credit_wh,
                        cumulative_credit_wh, cumulative_debit_wh, held_wh, leaf_count, data_hash, content_hash,
                        registry_version, sealed_ms)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
    [
      content.region,
      content.round,
      content.interval,
      content.prevInterval,
      bytesOf(content.prevRoot),
      bytesOf(content.root),
      content.intervalCreditWh,
      content.cumulativeCreditWh,
      content.cumulativeDebitWh,
      heldWh,
      content.leafCount,
      bytesOf(content.dataHash),
      bytesOf(contentHash),
      evidence.registryVersion,
      sealedMs,
    ],
  );
  const fileZstd = await compress(file, { params: { [constants.ZSTD_c_compressionLevel]: 3 } });
  await connection.query(
    "insert into ledger.evidence (region_id, round, interval_end, file_zstd) values ($1, $2, $3, $4)",
    [content.region, content.round, content.interval, fileZstd],
  );
}
