import type { Queryable } from "../../service/database.ts";
import { SLOTS, isWide } from "./line-protocol.ts";
import type { SeriesPoint } from "../time-series.ts";

/**
 * Two readings of one meter, epoch and second whose wide seqs differ by a multiple of 10^9 would be one point to
 * InfluxDB. The first one holds the nanosecond for good, and it is kept here, in a row for each reading. Resolves with the points whose nanosecond another one holds. Idempotent.
 *
 * The rows are read by a second statement, which sees what other processes have inserted meanwhile.
 */
export async function claimWideSeqs(
  db: Queryable,
  points: readonly SeriesPoint[],
  numberOf: (meterId: string) => number,
): Promise<ReadonlySet<SeriesPoint>> {
  const wide = points.filter(isWide);
  if (wide.length === 0) return new Set();
  const column = (value: (point: SeriesPoint) => number) => `{${wide.map(value).join(",")}}`;
  const columns = [
    ...[column(({ t }) => t), column(({ meterId }) => numberOf(meterId)), column(({ epoch }) => epoch)],
    ...[column(({ seq }) => seq % SLOTS), column(({ seq }) => seq)],
  ];
  const given = `unnest($1::bigint[], $2::int[], $3::int[], $4::int[], $5::bigint[])
                 with ordinality as k(t, meter, epoch, slot, seq, place)`;
  await db.query(
    `insert into series_marks.wide_seq (t, meter, epoch, slot, seq)
     select distinct on (k.t, k.meter, k.epoch, k.slot) k.t, k.meter, k.epoch, k.slot, k.seq from ${given}
      order by k.t, k.meter, k.epoch, k.slot, k.place
     on conflict (t, meter, epoch, slot) do nothing`,
    columns,
  );
  const taken = await db.query<{ place: bigint }>(
    `select k.place from ${given} join series_marks.wide_seq w
         on (w.t, w.meter, w.epoch, w.slot) = (k.t, k.meter, k.epoch, k.slot) where w.seq <> k.seq`,
    columns,
  );
  return new Set(taken.rows.map(({ place }) => wide[Number(place) - 1]!));
}
