import type { Hex } from "../domain/settlement/settlement.ts";
import { type Wh, wh } from "../domain/metering/units.ts";
import type { Queryable } from "../service/database.ts";

/** A region with its totals as of its newest batch that is not void. */
export interface RegionOverview {
  readonly regionId: number;
  readonly region: string;
  readonly utility: string;
  readonly round: number;
  /** Unix seconds; `undefined` before the first seal. */
  readonly sealedUntil: number | undefined;
  /** End of the newest batch on chain; `undefined` where there is none. */
  readonly settledUntil: number | undefined;
  /** Commissioned and not retired. */
  readonly meters: number;
  /** Not void. */
  readonly batches: number;
  readonly accounts: number;
  readonly cumulativeCreditWh: Wh;
  readonly cumulativeDebitWh: Wh;
  readonly heldWh: Wh;
}

interface Row {
  region_id: number;
  name: string;
  utility: string;
  round: number;
  sealed_until: bigint | null;
  settled_until: bigint | null;
  meters: bigint;
  batches: bigint;
  leaf_count: number | null;
  cumulative_credit_wh: bigint | null;
  cumulative_debit_wh: bigint | null;
  held_wh: bigint | null;
}

/** All regions by their number. */
export async function listRegions(db: Queryable): Promise<readonly RegionOverview[]> {
  const result = await db.query<Row>(
    `select r.region_id, r.name, r.utility, r.round, r.sealed_until, newest.*,
            (select count(*) from ledger.meter m where m.region_id = r.region_id and m.retired_at is null) as meters,
            (select count(*) from ledger.batch b where b.region_id = r.region_id and b.voided_ms is null) as batches,
            (select max(interval_end) from ledger.settlement s
              where s.region_id = r.region_id and s.state in ('mined', 'final', 'settled-externally')) as settled_until
       from ledger.region r
       left join lateral (
         select b.leaf_count, b.cumulative_credit_wh, b.cumulative_debit_wh, b.held_wh
           from ledger.batch b where b.region_id = r.region_id and b.voided_ms is null
          order by b.interval_end desc, b.round desc limit 1) newest on true
      order by r.region_id`,
  );
  return result.rows.map((row) => ({
    regionId: row.region_id,
    region: row.name,
    utility: row.utility,
    round: row.round,
    sealedUntil: row.sealed_until === null ? undefined : Number(row.sealed_until),
    settledUntil: row.settled_until === null ? undefined : Number(row.settled_until),
    meters: Number(row.meters),
    batches: Number(row.batches),
    accounts: row.leaf_count ?? 0,
    cumulativeCreditWh: wh(row.cumulative_credit_wh ?? 0n),
    cumulativeDebitWh: wh(row.cumulative_debit_wh ?? 0n),
    heldWh: wh(row.held_wh ?? 0n),
  }));
}

/** How many meters of a region counted in an interval: commissioned at its start, not retired before its end. */
export interface ExpectedMeters {
  readonly region: string;
  /** The interval's end, unix seconds. */
  readonly end: number;
  readonly meters: number;
}

/** The expected meters of each region for intervals of `lengthS` with these ends; a region without any is absent. */
export async function countExpectedMeters(
  db: Queryable,
  ends: readonly number[],
  lengthS: number,
): Promise<readonly ExpectedMeters[]> {
  const result = await db.query<{ name: string; interval_end: bigint; meters: bigint }>(
    `select r.name, e.interval_end, count(*) as meters
       from unnest($1::bigint[]) as e (interval_end)
       join ledger.meter m on m.commissioned_at <= e.interval_end - $2
        and (m.retired_at is null or m.retired_at >= e.interval_end)
       join ledger.region r using (region_id)
      group by r.name, e.interval_end`,
    [ends, lengthS],
  );
  return result.rows.map((row) => ({
    region: row.name,
    end: Number(row.interval_end),
    meters: Number(row.meters),
  }));
}

/** Names of the regions in which the account has, or had, a service point. */
export async function regionsOfAccount(db: Queryable, account: Hex): Promise<readonly string[]> {
  const result = await db.query<{ name: string }>(
    "select distinct r.name from ledger.meter m join ledger.region r using (region_id) where m.account = $1 order by r.name",
    [Buffer.from(account.slice(2), "hex")],
  );
  return result.rows.map((row) => row.name);
}
