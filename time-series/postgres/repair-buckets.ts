import { inTransaction, type Connection, type Pool } from "../../service/database.ts";
import { RESOLUTIONS_S, type ResolutionS } from "../time-series.ts";
import { bucketTable } from "./partitions.ts";

/** How long the mark of a bucket that is still open waits, by resolution, seconds. */
export type OpenBucketDelayS = Readonly<Record<ResolutionS, number>>;

/** Marked buckets, as columns. */
interface MarkedBuckets {
  readonly meters: readonly number[];
  readonly ends: readonly bigint[];
  readonly epochs: readonly number[];
}

/**
 * Takes marks that are due: of closed buckets at once, oldest first; of open ones when they have waited, so that a
 * bucket is not computed anew for each of its readings. Marks that a writer or another repair holds are left.
 *
 * $1 resolution, $2 now in unix s, $3 marks up to this unix ms are due in open buckets too, $4 limit.
 */
const TAKE_MARKS = `
delete from series.dirty
 where ctid = any (array(
         select ctid from series.dirty
          where resolution = $1 and (bucket_end <= $2 or marked_ms <= $3)
          order by bucket_end, meter, epoch limit $4
            for update skip locked))
returning meter, bucket_end, epoch`;

/** Locks the counters of the touched regions and intervals. $1, $2 columns `meter` and `bucket_end`. */
const LOCK_COMPLETENESS = `
insert into series.completeness (region, bucket_end, meters, readings)
select distinct (select region from series.meter where id = b.meter) as region, b.bucket_end, 0, 0
  from unnest($1::int[], $2::bigint[]) as b(meter, bucket_end)
 order by 1, 2
on conflict (region, bucket_end) do update set meters = 0 where false`;

/** A bucket of 900 s from its raw points, first and last by (t, seq). $4, $5: instants between which all lie. */
const FROM_POINTS = `
select count(*) as readings, min(t) as first_t, max(t) as last_t,
       array_agg(import_wh order by t, seq) as first_imports, array_agg(import_wh order by t, seq) as last_imports,
       array_agg(export_wh order by t, seq) as first_exports, array_agg(export_wh order by t, seq) as last_exports,
       count(power_w) as power_readings, sum(power_w)::bigint as power_sum_w,
       min(power_w) as min_power_w, max(power_w) as max_power_w
  from series.point
 where meter = d.meter and epoch = d.epoch and t > d.bucket_end - 900 and t <= d.bucket_end
   and t > $4 and t <= $5`;

/** A coarser bucket from the buckets of the next finer resolution. $4, $5: instants between which all lie. */
function fromBuckets(resolutionS: ResolutionS, finerS: ResolutionS): string {
  return `
select sum(readings)::bigint as readings, min(first_t) as first_t, max(last_t) as last_t,
       array_agg(first_import_wh order by bucket_end) as first_imports,
       array_agg(last_import_wh order by bucket_end) as last_imports,
       array_agg(first_export_wh order by bucket_end) as first_exports,
       array_agg(last_export_wh order by bucket_end) as last_exports,
       sum(power_readings)::bigint as power_readings, sum(power_sum_w)::bigint as power_sum_w,
       min(min_power_w) as min_power_w, max(max_power_w) as max_power_w
  from ${bucketTable(finerS)}
 where meter = d.meter and epoch = d.epoch
   and bucket_end > d.bucket_end - ${resolutionS} and bucket_end <= d.bucket_end
   and bucket_end > $4 and bucket_end <= $5`;
}

/**
 * Computes buckets anew and overwrites them under the same key, marks the next coarser ones, and for 900 s moves
 * the completeness counters by the difference. All parts of the statement see the state before it: `seen`
 * is null for a meter that is new in its interval.
 *
 * A bucket whose points have expired meanwhile keeps what it has.
 *
 * $1-$3 columns `meter`, `bucket_end`, `epoch`; $4, $5 see the sources; $6 the adapter's clock in unix ms.
 */
function recomputeStatement(resolutionS: ResolutionS): string {
  const place = RESOLUTIONS_S.indexOf(resolutionS);
  const finerS = RESOLUTIONS_S[place - 1];
  const coarserS = RESOLUTIONS_S[place + 1];
  const table = bucketTable(resolutionS);
  const fresh = `
with fresh as materialized (
  select d.meter, d.epoch, d.bucket_end, b.*
    from unnest($1::int[], $2::bigint[], $3::int[]) as d(meter, bucket_end, epoch)
   cross join lateral (${finerS === undefined ? FROM_POINTS : fromBuckets(resolutionS, finerS)}) b
   where b.readings > 0
)`;
  const marked = `
, marked as (
  insert into series.dirty (resolution, bucket_end, meter, epoch, marked_ms)
  select distinct ${coarserS}, (bucket_end + ${coarserS}::bigint - 1) / ${coarserS} * ${coarserS} as coarser_end, meter, epoch, $6::bigint
    from fresh order by coarser_end, meter, epoch
  on conflict (resolution, bucket_end, meter, epoch) do update set marked_ms = excluded.marked_ms where false
)`;
  // Single rows by scalar subqueries, so that the plan looks each up by key and never reads a table whole.
  const counted = `
, counted as (
  update series.completeness c set meters = c.meters + x.meters, readings = c.readings + x.readings
    from (select region, bucket_end, sum(readings - coalesce(old_readings, 0)) as readings,
                 count(distinct meter) filter (where seen is null) as meters
            from (select f.meter, f.bucket_end, f.readings,
                         (select m.region from series.meter m where m.id = f.meter) as region,
                         (select o.readings from ${table} o
                           where o.meter = f.meter and o.bucket_end = f.bucket_end and o.epoch = f.epoch) as old_readings,
                         (select true from ${table} o
                           where o.meter = f.meter and o.bucket_end = f.bucket_end limit 1) as seen
                    from fresh f) as changes
           group by region, bucket_end) x
   where c.region = x.region and c.bucket_end = x.bucket_end
)`;
  const stored = `
insert into ${table} as b
       (meter, epoch, bucket_end, readings, first_t, last_t, first_import_wh, last_import_wh, first_export_wh,
        last_export_wh, power_readings, power_sum_w, min_power_w, max_power_w)
select meter, epoch, bucket_end, readings, first_t, last_t,
       first_imports[1], last_imports[cardinality(last_imports)],
       first_exports[1], last_exports[cardinality(last_exports)],
       power_readings, power_sum_w, min_power_w, max_power_w
  from fresh order by meter, bucket_end, epoch
on conflict (meter, bucket_end, epoch) do update
   set readings = excluded.readings, first_t = excluded.first_t, last_t = excluded.last_t,
       first_import_wh = excluded.first_import_wh, last_import_wh = excluded.last_import_wh,
       first_export_wh = excluded.first_export_wh, last_export_wh = excluded.last_export_wh,
       power_readings = excluded.power_readings, power_sum_w = excluded.power_sum_w,
       min_power_w = excluded.min_power_w, max_power_w = excluded.max_power_w, version = b.version + 1`;
  return `${fresh}${coarserS === undefined ? "" : marked}${finerS === undefined ? counted : ""}${stored}`;
}

const RECOMPUTE = new Map(RESOLUTIONS_S.map((resolutionS) => [resolutionS, recomputeStatement(resolutionS)]));

/**
 * Recomputes up to `limit` marked buckets of one resolution; how many it took.
 *
 * No mark is lost. Its deletion and the bucket commit together. The points are read by a later statement than the
 * one that took the mark, so on a snapshot that holds everything committed with it; who marks the bucket in the
 * meantime waits for this transaction and marks it again. So no two repairs work on one bucket at a time either.
 *
 * No deadlock: a writer waits for a repair of 900 s, a repair only for one of the next coarser resolution, or of its
 * own for rows taken in one order.
 */
export async function repairBuckets(
  pool: Pool,
  resolutionS: ResolutionS,
  limit: number,
  nowMs: number,
  openBucketDelayS: OpenBucketDelayS,
): Promise<number> {
  if (limit <= 0) return 0;
  return await inTransaction(pool, async (connection) => {
    const marked = await takeMarks(connection, [
      resolutionS,
      Math.floor(nowMs / 1000),
      Math.floor(nowMs - openBucketDelayS[resolutionS] * 1000),
      limit,
    ]);
    if (marked.meters.length === 0) return 0;
    if (resolutionS === RESOLUTIONS_S[0]) {
      await connection.query(LOCK_COMPLETENESS, [marked.meters, marked.ends]);
    }
    await connection.query(RECOMPUTE.get(resolutionS)!, [
      marked.meters,
      marked.ends,
      marked.epochs,
      // Bounds that the planner knows spare it all partitions but the ones concerned.
      marked.ends.reduce((a, b) => (b < a ? b : a)) - BigInt(resolutionS),
      marked.ends.reduce((a, b) => (b > a ? b : a)),
      ...(resolutionS === RESOLUTIONS_S.at(-1) ? [] : [nowMs]),
    ]);
    return marked.meters.length;
  });
}

async function takeMarks(connection: Connection, parameters: readonly number[]): Promise<MarkedBuckets> {
  const taken = await connection.query<{ meter: number; bucket_end: bigint; epoch: number }>(TAKE_MARKS, [
    ...parameters,
  ]);
  return {
    meters: taken.rows.map((row) => row.meter),
    ends: taken.rows.map((row) => row.bucket_end),
    epochs: taken.rows.map((row) => row.epoch),
  };
}
