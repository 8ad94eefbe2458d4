import type { Hex } from "../domain/settlement/settlement.ts";
import type { Queryable } from "../service/database.ts";
import { type BatchKey, hexOf } from "./batches.ts";

/**
 * Where a batch stands on its way to finality. `sealed` and `attested` have no row of their own: they follow from the
 * signatures that the batch has.
 */
export type SettlementStage =
  "sealed" | "attested" | "signed" | "broadcast" | "mined" | "final" | "reverted" | "settled-externally";

/** A batch's way to the chain: what the command line and the demo show. */
export interface SettlementView extends BatchKey {
  /** The region's name. */
  readonly region: string;
  readonly contentHash: Hex;
  readonly state: SettlementStage;
  /** Why the chain refused it; `undefined` unless `reverted`. */
  readonly reason: string | undefined;
  /** Signatures received, of the set's newest epoch seen. */
  readonly signatures: number;
  /** Of the transaction that settled it, or is to. */
  readonly transactionHash: Hex | undefined;
  readonly blockNumber: number | undefined;
  readonly gasUsed: bigint | undefined;
  readonly sealedMs: number;
  readonly changedMs: number;
}

interface Row {
  region_id: number;
  region: string;
  round: number;
  interval_end: bigint;
  content_hash: Buffer;
  state: SettlementStage | null;
  reason: string | null;
  signatures: bigint;
  transaction_hash: Buffer | null;
  block_number: bigint | null;
  gas_used: bigint | null;
  sealed_ms: bigint;
  changed_ms: bigint | null;
}

const SELECT = `select b.region_id, r.name as region, b.round, b.interval_end, b.content_hash, s.state, s.reason,
    s.changed_ms, b.sealed_ms, g.signatures, t.transaction_hash, t.block_number, t.gas_used
  from batch b
  join region r using (region_id)
  left join settlement s on (s.region_id, s.round, s.interval_end) = (b.region_id, b.round, b.interval_end)
  cross join lateral (
    select count(*) as signatures from attestation a
     where (a.region_id, a.round, a.interval_end) = (b.region_id, b.round, b.interval_end)
       and a.signature is not null
       and a.authority_set_epoch = (select max(authority_set_epoch) from attestation n
             where (n.region_id, n.round, n.interval_end) = (b.region_id, b.round, b.interval_end))) g
  left join lateral (
    select coalesce(a.mined_hash, x.hash) as transaction_hash, a.block_number, a.gas_used
      from settlement_attempt j
      join attempt a using (attempt_id)
      join attempt_transaction x using (attempt_id)
     where (j.region_id, j.round, j.interval_end) = (b.region_id, b.round, b.interval_end) and j.live
     order by x.signed_ms desc limit 1) t on true`;

/** The status of the batch of a region's interval, in the newest round that has one that is not void. */
export async function settlementStatus(
  db: Queryable,
  key: { readonly region: string; readonly interval: number; readonly round?: number | undefined },
  threshold: number,
): Promise<SettlementView | undefined> {
  const result = await db.query<Row>(
    `${SELECT} where r.name = $1 and b.interval_end = $2 and ($3::integer is null or b.round = $3)
      order by b.voided_ms is not null, b.round desc limit 1`,
    [key.region, key.interval, key.round ?? null],
  );
  return result.rows[0] === undefined ? undefined : toView(result.rows[0], threshold);
}

/** Statuses of one region's batches or of all, newest interval first, below `beforeInterval`; at most `limit`. */
export async function listSettlements(
  db: Queryable,
  page: {
    readonly region?: string | undefined;
    readonly beforeInterval?: number | undefined;
    readonly limit: number;
  },
  threshold: number,
): Promise<readonly SettlementView[]> {
  const result = await db.query<Row>(
    `${SELECT} where b.voided_ms is null and ($1::text is null or r.name = $1)
       and ($2::bigint is null or b.interval_end < $2)
      order by b.interval_end desc, b.region_id, b.round desc limit $3`,
    [page.region ?? null, page.beforeInterval ?? null, page.limit],
  );
  return result.rows.map((row) => toView(row, threshold));
}

/** How many batches that are not void stand in each stored state; `sealed` counts those without one. */
export async function settlementCounts(
  db: Queryable,
): Promise<Readonly<Record<Exclude<SettlementStage, "attested">, number>>> {
  const counts = {
    ...{ sealed: 0, signed: 0, broadcast: 0, mined: 0, final: 0, reverted: 0 },
    "settled-externally": 0,
  };
  const result = await db.query<{ state: keyof typeof counts; batches: bigint }>(
    `select coalesce(s.state, 'sealed') as state, count(*) as batches
       from batch b left join settlement s using (region_id, round, interval_end)
      where b.voided_ms is null group by 1`,
  );
  for (const row of result.rows) counts[row.state] = Number(row.batches);
  return counts;
}

function toView(row: Row, threshold: number): SettlementView {
  const signatures = Number(row.signatures);
  return {
    regionId: row.region_id,
    region: row.region,
    round: row.round,
    interval: Number(row.interval_end),
    contentHash: hexOf(row.content_hash),
    state: row.state ?? (signatures >= threshold ? "attested" : "sealed"),
    reason: row.reason ?? undefined,
    signatures,
    transactionHash: row.transaction_hash === null ? undefined : hexOf(row.transaction_hash),
    blockNumber: row.block_number === null ? undefined : Number(row.block_number),
    gasUsed: row.gas_used ?? undefined,
    sealedMs: Number(row.sealed_ms),
    changedMs: Number(row.changed_ms ?? row.sealed_ms),
  };
}
