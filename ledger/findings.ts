import type { Hex } from "../domain/settlement/settlement.ts";
import type { Wh } from "../domain/metering/units.ts";
import type { Connection } from "../service/database.ts";
import type { QuarantinedReading } from "./quarantine.ts";

/** Keeps where quarantined readings lie in the log. Idempotent. */
export async function saveQuarantined(
  connection: Connection,
  readings: readonly QuarantinedReading[],
): Promise<void> {
  if (readings.length === 0) return;
  await connection.query(
    `insert into ledger.quarantine (topic, partition, log_offset, index, meter_id, epoch, seq, t, reason)
     select * from unnest($1::text[], $2::integer[], $3::bigint[], $4::integer[], $5::text[], $6::integer[],
                          $7::bigint[], $8::bigint[], $9::text[])
     on conflict (topic, partition, log_offset, index) do nothing`,
    [
      readings.map(({ topic }) => topic),
      readings.map(({ partition }) => partition),
      readings.map(({ offset }) => offset),
      readings.map(({ index }) => index),
      readings.map(({ meterId }) => meterId),
      readings.map(({ epoch }) => epoch),
      readings.map(({ seq }) => seq),
      readings.map(({ t }) => t),
      readings.map(({ reason }) => reason),
    ],
  );
}

/** Flags meters that are not flagged yet. */
export async function flagMeters(
  connection: Connection,
  meterIds: readonly string[],
  reason: string,
): Promise<void> {
  if (meterIds.length === 0) return;
  await connection.query(
    "update ledger.meter set flagged = $2 where meter_id = any($1) and flagged is null",
    [meterIds, reason],
  );
}

/** What a sealed interval lacked when it was sealed. Explains; is never added to totals. */
export interface Adjustment {
  /** Interval end, unix seconds. */
  readonly interval: number;
  readonly servicePoint: string;
  readonly account: Hex;
  readonly meterId: string;
  readonly epoch: number;
  readonly seq: number;
  readonly deltaWh: Wh;
}

/** Writes adjustments of a region. Idempotent by reading and interval. */
export async function saveAdjustments(
  connection: Connection,
  regionId: number,
  adjustments: readonly Adjustment[],
  reason: string,
  createdMs: number,
): Promise<void> {
  if (adjustments.length === 0) return;
  await connection.query(
    `insert into ledger.adjustment (region_id, interval_end, service_point, account, meter_id, epoch, seq, delta_wh, reason,
                             created_ms)
     select $1, a.interval_end, a.service_point, decode(a.account, 'hex'), a.meter_id, a.epoch, a.seq, a.delta_wh, $2, $3
       from unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::integer[], $9::bigint[], $10::bigint[])
         as a (interval_end, service_point, account, meter_id, epoch, seq, delta_wh)
     on conflict (region_id, interval_end, meter_id, epoch, seq) do nothing`,
    [
      regionId,
      reason,
      createdMs,
      adjustments.map(({ interval }) => interval),
      adjustments.map(({ servicePoint }) => servicePoint),
      adjustments.map(({ account }) => account.slice(2)),
      adjustments.map(({ meterId }) => meterId),
      adjustments.map(({ epoch }) => epoch),
      adjustments.map(({ seq }) => seq),
      adjustments.map(({ deltaWh }) => deltaWh),
    ],
  );
}

/** The sum of a service point's adjustments of an interval so far, by `interval/servicePoint`. */
export async function sumAdjustments(
  connection: Connection,
  regionId: number,
  keys: readonly { readonly interval: number; readonly servicePoint: string }[],
): Promise<ReadonlyMap<string, bigint>> {
  const result = await connection.query<{ interval_end: bigint; service_point: string; sum: bigint }>(
    `select interval_end, service_point, sum(delta_wh)::bigint as sum
       from ledger.adjustment join unnest($2::bigint[], $3::text[]) as k (interval_end, service_point)
         using (interval_end, service_point)
      where region_id = $1 group by interval_end, service_point`,
    [regionId, keys.map(({ interval }) => interval), keys.map(({ servicePoint }) => servicePoint)],
  );
  return new Map(result.rows.map((row) => [`${row.interval_end}/${row.service_point}`, row.sum]));
}
