import { inTransaction, type Pool, type Queryable } from "../../service/database.ts";
import { RESOLUTIONS_S, type ResolutionS } from "../time-series.ts";

/** Which bucket a mark is about. */
export interface Mark {
  /** The meter's number. */
  readonly meter: number;
  readonly epoch: number;
  readonly end: number;
}

/** A mark that a repair works on. */
export interface TakenMark extends Mark {
  readonly meterId: string;
  readonly region: string;
  /** The repair before gave no word: it may have written the bucket and not marked the coarser one. */
  readonly retaken: boolean;
}

/** How a repair takes marks. */
export interface Taking {
  /** The repair's number. */
  readonly repair: bigint;
  /** How long nobody else may take them, ms. */
  readonly leaseMs: number;
  readonly nowMs: number;
  /** How long the mark of an open bucket waits, ms. */
  readonly openDelayMs: number;
  readonly limit: number;
}

/**
 * Sets marks of 900 s, but for buckets that have expired, and returns how far raw points have.
 *
 * A mark that nobody works on is locked and left as it is. One that a repair has taken is set once more (`again`), so
 * that the repair does not delete it: it may have read the points before this write. Rows are inserted in key order,
 * so that writers wait for one another and never deadlock.
 *
 * $1-$3 columns `bucket_end`, `meter`, `epoch`, without repetition; $4 the adapter's clock in unix ms.
 */
const SET_MARKS = `
with expired as materialized (select until_t from series_marks.expired where part = 'raw'),
marked as (
  insert into series_marks.dirty as d (resolution, bucket_end, meter, epoch, marked_ms)
  select 900, k.bucket_end, k.meter, k.epoch, $4
    from unnest($1::bigint[], $2::int[], $3::int[]) as k(bucket_end, meter, epoch), expired
   where k.bucket_end > expired.until_t
   order by k.bucket_end, k.meter, k.epoch
  on conflict (resolution, bucket_end, meter, epoch) do update
     set again = true, marked_ms = case when d.again then d.marked_ms else excluded.marked_ms end
   where d.taken_by is not null
)
select until_t from expired`;

/**
 * Takes marks that are due and free: of closed buckets at once, oldest first; of open ones when they have waited, so
 * that a bucket is not computed anew for each of its readings.
 *
 * $1 resolution, $2 now in unix s, $3 marks up to this unix ms are due in open buckets too, $4 limit, $5 the repair,
 * $6 lease in ms.
 */
const TAKE_MARKS = `
with taken as (
  update series_marks.dirty d
     set retaken = d.taken_by is not null, taken_by = $5,
         taken_until = clock_timestamp() + $6 * interval '1 millisecond', again = false
   where d.ctid = any (array(
           select ctid from series_marks.dirty
            where resolution = $1 and (bucket_end <= $2 or marked_ms <= $3)
              and (taken_until is null or taken_until <= clock_timestamp())
            order by bucket_end, meter, epoch limit $4
              for update skip locked))
  returning d.meter, d.bucket_end, d.epoch, d.retaken
)
select t.*, m.meter_id, m.region from taken t join series_marks.meter m on m.id = t.meter
 order by t.bucket_end, m.meter_id, t.epoch`;

/** Locks a repair's marks in key order, so that what follows may go through them in any. $1-$5 as in DELETE_MARKS. */
const LOCK_MARKS = `
select from series_marks.dirty d
 where (d.resolution, d.bucket_end, d.meter, d.epoch) in
         (select $1::int, * from unnest($2::bigint[], $3::int[], $4::int[])) and d.taken_by = $5
 order by d.bucket_end, d.meter, d.epoch for update`;

/** Deletes what was not marked again. $1 resolution, $2-$4 columns `bucket_end`, `meter`, `epoch`, $5 the repair. */
const DELETE_MARKS = `
delete from series_marks.dirty d
 where (d.resolution, d.bucket_end, d.meter, d.epoch) in
         (select $1::int, * from unnest($2::bigint[], $3::int[], $4::int[])) and d.taken_by = $5 and not d.again`;

/** Gives back the rest. $1-$5 as in DELETE_MARKS. */
const RELEASE_MARKS = `
update series_marks.dirty d set taken_by = null, taken_until = null, retaken = false, again = false
 where (d.resolution, d.bucket_end, d.meter, d.epoch) in
         (select $1::int, * from unnest($2::bigint[], $3::int[], $4::int[])) and d.taken_by = $5`;

/** Marks coarser buckets. $1 the coarser resolution, $2-$4 columns of the finer ones, $5 adapter's clock in unix ms. */
const SET_COARSER = `
insert into series_marks.dirty as d (resolution, bucket_end, meter, epoch, marked_ms)
select distinct $1::int, (f.bucket_end + $1::bigint - 1) / $1::bigint * $1::bigint as coarser_end, f.meter, f.epoch, $5::bigint
  from unnest($2::bigint[], $3::int[], $4::int[]) as f(bucket_end, meter, epoch)
 order by coarser_end, f.meter, f.epoch
on conflict (resolution, bucket_end, meter, epoch) do update
   set again = true, marked_ms = case when d.again then d.marked_ms else excluded.marked_ms end
 where d.taken_by is not null`;

/** Marks the completeness of regions and intervals. $1, $2 columns `bucket_end`, `meter`, $3 clock in unix ms. */
const SET_COMPLETENESS = `
insert into series_marks.dirty_completeness as d (region, bucket_end, marked_ms)
select distinct m.region, k.bucket_end, $3::bigint
  from unnest($1::bigint[], $2::int[]) as k(bucket_end, meter) join series_marks.meter m on m.id = k.meter
 order by k.bucket_end, m.region
on conflict (bucket_end, region) do update
   set again = true, marked_ms = case when d.again then d.marked_ms else excluded.marked_ms end
 where d.taken_by is not null`;

/** Sets marks of 900 s once the points are in InfluxDB; resolves with how far raw points have expired. */
export async function setMarks(db: Queryable, marks: readonly Mark[], nowMs: number): Promise<number> {
  const result = await db.query<{ until_t: bigint }>(SET_MARKS, [...columnsOf(marks), Math.floor(nowMs)]);
  return Number(result.rows[0]!.until_t);
}

/** Takes up to `limit` marks of a resolution, oldest bucket first. */
export async function takeMarks(
  db: Queryable,
  resolutionS: ResolutionS,
  { repair, leaseMs, nowMs, openDelayMs, limit }: Taking,
): Promise<readonly TakenMark[]> {
  const result = await db.query<{
    meter: number;
    bucket_end: bigint;
    epoch: number;
    retaken: boolean;
    meter_id: string;
    region: string;
  }>(TAKE_MARKS, [
    ...[resolutionS, Math.floor(nowMs / 1000), Math.floor(nowMs - openDelayMs)],
    ...[limit, repair, leaseMs],
  ]);
  return result.rows.map(({ meter, bucket_end, epoch, retaken, meter_id, region }) => ({
    ...{ meter, epoch, end: Number(bucket_end) },
    ...{ meterId: meter_id, region, retaken },
  }));
}

/** What became of the marks that a repair took. */
export interface Repaired {
  readonly resolutionS: ResolutionS;
  readonly repair: bigint;
  readonly taken: readonly TakenMark[];
  /** Buckets that are right now, so that their marks may go. */
  readonly done: readonly TakenMark[];
  /** Those among them whose coarser buckets and completeness are out of date with that. */
  readonly changed: readonly TakenMark[];
  readonly nowMs: number;
}

/**
 * Ends a repair in one transaction: marks what follows from the changed buckets, deletes the marks of those that are
 * done and were not marked again, and gives back all others.
 *
 * No deadlock: rows are locked in key order, finer resolutions before coarser ones, completeness last.
 */
export async function finishMarks(pool: Pool, repaired: Repaired): Promise<void> {
  const { resolutionS, repair, taken, done, changed, nowMs } = repaired;
  const coarserS = RESOLUTIONS_S[RESOLUTIONS_S.indexOf(resolutionS) + 1];
  await inTransaction(pool, async (connection) => {
    const all = [resolutionS, ...columnsOf(taken), repair];
    await connection.query(LOCK_MARKS, all);
    if (changed.length > 0 && coarserS !== undefined)
      await connection.query(SET_COARSER, [coarserS, ...columnsOf(changed), Math.floor(nowMs)]);
    if (changed.length > 0 && resolutionS === RESOLUTIONS_S[0]) {
      const [ends, meters] = columnsOf(changed);
      await connection.query(SET_COMPLETENESS, [ends, meters, Math.floor(nowMs)]);
    }
    await connection.query(DELETE_MARKS, [resolutionS, ...columnsOf(done), repair]);
    await connection.query(RELEASE_MARKS, all);
  });
}

/** `bucket_end`, `meter`, `epoch` as array literals; the driver's own conversion quotes each element. */
function columnsOf(marks: readonly Mark[]): [ends: string, meters: string, epochs: string] {
  const column = (value: (mark: Mark) => number) => `{${marks.map(value).join(",")}}`;
  return [column((mark) => mark.end), column((mark) => mark.meter), column((mark) => mark.epoch)];
}
