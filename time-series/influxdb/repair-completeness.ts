import { inTransaction, type Connection, type Pool } from "../../service/database.ts";
import { readExpired } from "./expiry.ts";
import { runFlux, secondsOf } from "./flux.ts";
import { nanosOf } from "./line-protocol.ts";
import type { Taking } from "./marks.ts";
import type { Lease, RepairParts } from "./repair-rollups.ts";
import { writeLines } from "./write-lines.ts";

const QUARTER_S = 900;
/** Intervals that one query counts, and how far apart they may lie. */
const MAX_INTERVALS = 96;
const MAX_GAP = 4;

/** Counts within InfluxDB: one row for each interval, twice. A meter with two epochs in an interval counts once. */
const COUNTS = `
quarters = from(bucket: params.bucket)
  |> range(start: params.start, stop: params.stop)
  |> filter(fn: (r) => r._measurement == "rollup" and r._field == "readings" and r.region == params.region)
  |> keep(columns: ["_time", "_value", "meter"])
quarters
  |> group(columns: ["_time"])
  |> sum()
  |> rename(columns: {_value: "readings"})
  |> yield(name: "readings")
quarters
  |> group(columns: ["_time"])
  |> distinct(column: "meter")
  |> count()
  |> rename(columns: {_value: "meters"})
  |> yield(name: "meters")`;

/**
 * Takes marks that are due and free: of an interval that has ended as soon as none of its rollups is out of date, so
 * that it is counted once; of every one when it has waited.
 *
 * $1 now in unix s, $2 marks up to this unix ms are due in any case, $3 limit, $4 the repair, $5 lease in ms.
 */
const TAKE_MARKS = `
update series_marks.dirty_completeness d
   set taken_by = $4, taken_until = clock_timestamp() + $5 * interval '1 millisecond', again = false
 where d.ctid = any (array(
         select c.ctid from series_marks.dirty_completeness c
          where (c.taken_until is null or c.taken_until <= clock_timestamp())
            and (c.marked_ms <= $2
                 or (c.bucket_end <= $1
                     and not exists (select from series_marks.dirty r
                                      where r.resolution = 900 and r.bucket_end = c.bucket_end)))
          order by c.bucket_end, c.region limit $3
            for update skip locked))
returning d.region, d.bucket_end`;

/** Locks the repair's marks in the order in which they are set. $1-$3 as in DELETE_MARKS. */
const LOCK_MARKS = `
select from series_marks.dirty_completeness d
 where (d.region, d.bucket_end) in (select * from unnest($1::text[], $2::bigint[])) and d.taken_by = $3
 order by d.bucket_end, d.region for update`;

/** Deletes the repair's marks that were not set again. $1, $2 columns `region`, `bucket_end`, $3 the repair. */
const DELETE_MARKS = `
delete from series_marks.dirty_completeness d
 where (d.region, d.bucket_end) in (select * from unnest($1::text[], $2::bigint[])) and d.taken_by = $3 and not d.again`;

/** Gives back the others. $1-$3 as in DELETE_MARKS. */
const RELEASE_MARKS = `
update series_marks.dirty_completeness d set taken_by = null, taken_until = null, again = false
 where (d.region, d.bucket_end) in (select * from unnest($1::text[], $2::bigint[])) and d.taken_by = $3`;

/** A region's interval. */
interface Interval {
  readonly region: string;
  readonly end: number;
}

/**
 * Counts marked intervals anew from their 15-minute rollups, at most `limit`; how many. Marks are handled as those of
 * rollups are, see `repairRollups`.
 */
export async function repairCompleteness(parts: RepairParts, taking: Taking, lease: Lease): Promise<number> {
  const taken = await takeMarks(parts.pool, taking);
  if (taken.length === 0) return 0;
  const expiredUntil = (await readExpired(parts.pool))["15m"];
  const live = taken.filter(({ end }) => end > expiredUntil);
  const lines: string[] = [];
  for (const run of runsOf(live)) lines.push(...(await countRun(parts, run, lease)));
  // Rollups that expired while they were counted count for less than there were.
  if ((await readExpired(parts.pool))["15m"] === expiredUntil) {
    const { influx, buckets, maxLinesPerRequest } = parts;
    const options = { maxLinesPerRequest, timeoutMs: () => lease.timeoutMs() };
    await writeLines(influx, buckets.nameOf("15m"), lines, options);
    await finish(parts.pool, taken, taken, taking.repair);
  } else {
    await finish(parts.pool, taken, [], taking.repair);
  }
  return taken.length;
}

async function takeMarks(pool: Pool, taking: Taking): Promise<readonly Interval[]> {
  const { nowMs, openDelayMs, limit, repair, leaseMs } = taking;
  const result = await pool.query<{ region: string; bucket_end: bigint }>(TAKE_MARKS, [
    ...[Math.floor(nowMs / 1000), Math.floor(nowMs - openDelayMs), limit, repair, leaseMs],
  ]);
  return result.rows
    .map(({ region, bucket_end }) => ({ region, end: Number(bucket_end) }))
    .sort((a, b) => (a.region < b.region ? -1 : a.region > b.region ? 1 : a.end - b.end));
}

/** Neighbouring intervals of a region, which one query counts. */
function runsOf(sorted: readonly Interval[]): Interval[][] {
  const runs: Interval[][] = [];
  for (const interval of sorted) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    const follows =
      last?.region === interval.region &&
      interval.end - last.end <= MAX_GAP * QUARTER_S &&
      interval.end - run![0]!.end < MAX_INTERVALS * QUARTER_S;
    if (follows) run!.push(interval);
    else runs.push([interval]);
  }
  return runs;
}

async function countRun(parts: RepairParts, run: readonly Interval[], lease: Lease): Promise<string[]> {
  const region = run[0]!.region;
  const counts = new Map(run.map(({ end }) => [end, { meters: 0, readings: 0 }]));
  const params = {
    bucket: parts.buckets.nameOf("15m"),
    region,
    start: run[0]!.end,
    stop: run.at(-1)!.end + 1,
  };
  await runFlux(
    parts.influx,
    COUNTS,
    params,
    (column) => {
      const kind = column("meters") >= 0 ? "meters" : "readings";
      const [time, value] = [column("_time"), column(kind)];
      return (row) => {
        const count = counts.get(secondsOf(row[time]!));
        if (count !== undefined) count[kind] = Number(row[value]);
      };
    },
    lease.timeoutMs(),
  );
  return [...counts]
    .filter(([, { readings }]) => readings > 0)
    .map(
      ([end, { meters, readings }]) =>
        `completeness,region=${region} meters=${meters}i,readings=${readings}i ${nanosOf(end)}`,
    );
}

async function finish(
  pool: Pool,
  taken: readonly Interval[],
  done: readonly Interval[],
  repair: bigint,
): Promise<void> {
  await inTransaction(pool, async (connection: Connection) => {
    const columns = (intervals: readonly Interval[]) => [
      intervals.map(({ region }) => region),
      intervals.map(({ end }) => end),
    ];
    await connection.query(LOCK_MARKS, [...columns(taken), repair]);
    await connection.query(DELETE_MARKS, [...columns(done), repair]);
    await connection.query(RELEASE_MARKS, [...columns(taken), repair]);
  });
}
