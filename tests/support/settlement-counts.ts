import type { SettlementState } from "../../ledger/settlements.ts";
import type { Queryable } from "../../service/database.ts";

/** How many batches that are not void stand in each state; `sealed` counts those that the relayer has not begun. */
export async function settlementCounts(
  db: Queryable,
): Promise<Readonly<Record<SettlementState | "sealed", number>>> {
  const counts = {
    ...{ sealed: 0, signed: 0, broadcast: 0, mined: 0, final: 0, reverted: 0 },
    "settled-externally": 0,
  };
  const result = await db.query<{ state: keyof typeof counts; batches: bigint }>(
    `select coalesce(s.state, 'sealed') as state, count(*) as batches
       from ledger.batch b left join ledger.settlement s using (region_id, round, interval_end)
      where b.voided_ms is null group by 1`,
  );
  for (const row of result.rows) counts[row.state] = Number(row.batches);
  return counts;
}
