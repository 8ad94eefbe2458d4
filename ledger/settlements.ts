import type { Hex } from "../domain/settlement/settlement.ts";
import type { Queryable } from "../service/database.ts";
import { BATCH_COLUMNS, type Batch, type BatchKey, type BatchRow, hexOf, toBatch } from "./batches.ts";

/** How far the relayer has brought a batch; `mined` and what follows it is on chain. */
export type SettlementState = "signed" | "broadcast" | "mined" | "final" | "reverted" | "settled-externally";

/** Where a batch is on its way onto the chain. */
export interface SettlementStatus {
  readonly state: SettlementState;
  /** The contract's error, decoded; only where reverted. */
  readonly reason: string | undefined;
  readonly changedMs: number;
  /** The transaction that holds it, as last seen; `undefined` while none is mined. */
  readonly transactionHash: Hex | undefined;
  readonly blockNumber: number | undefined;
}

interface StatusRow {
  region_id: number;
  round: number;
  interval_end: bigint;
  state: SettlementState;
  reason: string | null;
  changed_ms: bigint;
  mined_hash: Buffer | null;
  block_number: bigint | null;
}

/** The status of each of these batches, in their order; `undefined` where the relayer has not begun. */
export async function settlementStatuses(
  db: Queryable,
  keys: readonly BatchKey[],
): Promise<readonly (SettlementStatus | undefined)[]> {
  const result = await db.query<StatusRow>(
    `select s.region_id, s.round, s.interval_end, s.state, s.reason, s.changed_ms, a.mined_hash, a.block_number
       from unnest($1::integer[], $2::integer[], $3::bigint[]) as k (region_id, round, interval_end)
       join ledger.settlement s using (region_id, round, interval_end)
       left join ledger.settlement_attempt j on j.live
        and (j.region_id, j.round, j.interval_end) = (s.region_id, s.round, s.interval_end)
       left join ledger.attempt a on a.attempt_id = j.attempt_id and a.succeeded`,
    [keys.map((key) => key.regionId), keys.map((key) => key.round), keys.map((key) => key.interval)],
  );
  const byKey = new Map(
    result.rows.map((row) => [`${row.region_id}/${row.round}/${row.interval_end}`, toStatus(row)]),
  );
  return keys.map((key) => byKey.get(`${key.regionId}/${key.round}/${key.interval}`));
}

function toStatus(row: StatusRow): SettlementStatus {
  return {
    state: row.state,
    reason: row.reason ?? undefined,
    changedMs: Number(row.changed_ms),
    transactionHash: row.mined_hash === null ? undefined : hexOf(row.mined_hash),
    blockNumber: row.block_number === null ? undefined : Number(row.block_number),
  };
}

/** A region's newest batch that is on chain, or else its newest sealed one; `undefined` where it has none. */
export async function newestProvableBatch(db: Queryable, region: string): Promise<Batch | undefined> {
  const settled = await db.query<BatchRow>(
    `select ${BATCH_COLUMNS} from ledger.batch b join ledger.region r using (region_id)
       join ledger.settlement s on (s.region_id, s.round, s.interval_end) = (b.region_id, b.round, b.interval_end)
      where r.name = $1 and b.voided_ms is null and s.state in ('mined', 'final', 'settled-externally')
      order by b.interval_end desc limit 1`,
    [region],
  );
  if (settled.rows[0] !== undefined) return toBatch(settled.rows[0]);
  const sealed = await db.query<BatchRow>(
    `select ${BATCH_COLUMNS} from ledger.batch b join ledger.region r using (region_id)
      where r.name = $1 and b.voided_ms is null order by b.interval_end desc, b.round desc limit 1`,
    [region],
  );
  return sealed.rows[0] === undefined ? undefined : toBatch(sealed.rows[0]);
}
