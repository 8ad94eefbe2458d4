import { packServicePoint, unpackServicePoint } from "../domain/metering/packed-service-point.ts";
import type { ServicePoint } from "../domain/metering/service-point.ts";
import type { Connection, Queryable } from "../service/database.ts";

/** The stored states of a region, of one partition or of all. */
export async function loadServicePoints(
  db: Queryable,
  regionId: number,
  partition?: number,
): Promise<ServicePoint[]> {
  const result = await db.query<{ service_point: string; packed: Buffer }>(
    `select service_point, packed from ledger.service_point_state
      where region_id = $1 and ($2::integer is null or partition = $2)`,
    [regionId, partition ?? null],
  );
  return result.rows.map((row) => unpackServicePoint(row.service_point, row.packed));
}

/** Writes states of one partition. */
export async function saveServicePoints(
  connection: Connection,
  regionId: number,
  partition: number,
  states: readonly ServicePoint[],
): Promise<void> {
  if (states.length === 0) return;
  await connection.query(
    `insert into ledger.service_point_state as s (region_id, partition, service_point, packed)
     select $1, $2, * from unnest($3::text[], $4::bytea[])
     on conflict (region_id, partition, service_point) do update set packed = excluded.packed`,
    [
      regionId,
      partition,
      states.map((state) => state.servicePoint),
      states.map((state) => Buffer.from(packServicePoint(state))),
    ],
  );
}

/** How far a partition's states have come, as a seal needs to know it. */
export interface PartitionProgress {
  readonly partition: number;
  /** Unix seconds; `undefined` before the region's first meter. */
  readonly firstEnd: number | undefined;
  /** Per boundary from `firstEnd` on: service points that count, and those of them that are still awaited. */
  readonly counting: readonly number[];
  readonly waiting: readonly number[];
  /** Service points that are not retired. */
  readonly inService: number;
  /** The interval of the record before which the partition pauses. */
  readonly blockedEnd: number | undefined;
}

/** What became of readings since the last flush. */
export interface ReadingCounts {
  readings: number;
  accepted: number;
  stale: number;
  duplicates: number;
  waiting: number;
  quarantined: number;
}

/** Replaces a partition's progress and adds to its counts. */
export async function saveProgress(
  connection: Connection,
  regionId: number,
  progress: PartitionProgress,
  counts: ReadingCounts,
): Promise<void> {
  await connection.query(
    `insert into ledger.partition_progress as p
       (region_id, partition, first_end, counting, waiting, in_service, blocked_end,
        readings, accepted, stale, duplicates, waiting_epoch, quarantined)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
     on conflict (region_id, partition) do update
       set first_end = excluded.first_end, counting = excluded.counting, waiting = excluded.waiting,
           in_service = excluded.in_service, blocked_end = excluded.blocked_end, readings = p.readings + excluded.readings,
           accepted = p.accepted + excluded.accepted, stale = p.stale + excluded.stale,
           duplicates = p.duplicates + excluded.duplicates,
           waiting_epoch = p.waiting_epoch + excluded.waiting_epoch,
           quarantined = p.quarantined + excluded.quarantined`,
    [
      regionId,
      progress.partition,
      progress.firstEnd ?? null,
      progress.counting,
      progress.waiting,
      progress.inService,
      progress.blockedEnd ?? null,
      counts.readings,
      counts.accepted,
      counts.stale,
      counts.duplicates,
      counts.waiting,
      counts.quarantined,
    ],
  );
}

interface ProgressRow {
  partition: number;
  first_end: bigint | null;
  counting: number[];
  waiting: number[];
  in_service: number;
  blocked_end: bigint | null;
}

/** The progress of a region's partitions that have been flushed at least once. */
export async function loadProgress(db: Queryable, regionId: number): Promise<readonly PartitionProgress[]> {
  const result = await db.query<ProgressRow>(
    `select partition, first_end, counting, waiting, in_service, blocked_end from ledger.partition_progress where region_id = $1`,
    [regionId],
  );
  return result.rows.map((row) => ({
    partition: row.partition,
    firstEnd: row.first_end === null ? undefined : Number(row.first_end),
    counting: row.counting,
    waiting: row.waiting,
    inService: row.in_service,
    blockedEnd: row.blocked_end === null ? undefined : Number(row.blocked_end),
  }));
}
