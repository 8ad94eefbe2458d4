import type { Queryable } from "../../service/database.ts";
import type { SeriesPoint } from "../time-series.ts";

/** A point with its meter's number in the series. */
export interface NumberedPoint {
  readonly meter: number;
  readonly point: SeriesPoint;
}

/**
 * Writes points and marks the 15-minute buckets they change, in one statement and so in one transaction.
 *
 * A point equal to what is stored changes nothing and marks nothing, so that a redelivery costs no repair. Rows are
 * inserted in key order, points before marks, so that concurrent writers never deadlock. An existing mark is
 * locked and not changed (`do update ... where false`): a repair skips locked marks, so it cannot take this one
 * before the points it stands for are committed, and a mark that a repair is deleting is waited for and set again.
 * `do nothing` would lose it.
 *
 * $1-$10 columns of `point`, $11 the adapter's clock in unix ms.
 */
const WRITE = `
with written as (
  insert into series.point as p
         (meter, epoch, t, seq, import_wh, export_wh, power_w, voltage_dv, frequency_mhz, status)
  select * from unnest($1::int[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                       $7::int[], $8::int[], $9::int[], $10::int[])
  on conflict (meter, t, epoch, seq) do update
     set import_wh = excluded.import_wh, export_wh = excluded.export_wh, power_w = excluded.power_w,
         voltage_dv = excluded.voltage_dv, frequency_mhz = excluded.frequency_mhz, status = excluded.status
   where (p.import_wh, p.export_wh, p.power_w, p.voltage_dv, p.frequency_mhz, p.status) is distinct from
         (excluded.import_wh, excluded.export_wh, excluded.power_w, excluded.voltage_dv, excluded.frequency_mhz,
          excluded.status)
  returning meter, epoch, t
)
insert into series.dirty (resolution, bucket_end, meter, epoch, marked_ms)
select distinct 900, (t + 899) / 900 * 900 as bucket_end, meter, epoch, $11::bigint
  from written order by bucket_end, meter, epoch
on conflict (resolution, bucket_end, meter, epoch) do update set marked_ms = excluded.marked_ms where false`;

/** Runs `WRITE`. Of points with the same key the last one is written. */
export async function writePoints(
  db: Queryable,
  points: readonly NumberedPoint[],
  nowMs: number,
): Promise<void> {
  const rows = lastOfEachKey(points);
  await db.query({
    text: WRITE,
    values: [
      column(rows, (row) => row.meter),
      column(rows, (row) => row.point.epoch),
      column(rows, (row) => row.point.t),
      column(rows, (row) => row.point.seq),
      column(rows, (row) => row.point.importWh),
      column(rows, (row) => row.point.exportWh),
      column(rows, (row) => row.point.powerW),
      column(rows, (row) => row.point.voltageDv),
      column(rows, (row) => row.point.frequencyMhz),
      column(rows, (row) => row.point.status),
      nowMs,
    ],
  });
}

/** In key order; a statement cannot update one row twice. The sort is stable, so the last of equals stays last. */
function lastOfEachKey(points: readonly NumberedPoint[]): NumberedPoint[] {
  const sorted = points.toSorted(compareKeys);
  return sorted.filter((row, i) => {
    const next = sorted[i + 1];
    return next === undefined || compareKeys(row, next) !== 0;
  });
}

function compareKeys(a: NumberedPoint, b: NumberedPoint): number {
  return (
    a.meter - b.meter || a.point.t - b.point.t || a.point.epoch - b.point.epoch || a.point.seq - b.point.seq
  );
}

/** An array literal of integers. The driver's own conversion quotes each element, at several times the cost. */
function column(
  rows: readonly NumberedPoint[],
  value: (row: NumberedPoint) => number | bigint | undefined,
): string {
  return `{${rows.map((row) => value(row) ?? "null").join(",")}}`;
}
