import type { Hex } from "../domain/settlement/settlement.ts";
import type { Queryable } from "../service/database.ts";
import {
  BATCH_COLUMNS,
  type Batch,
  type BatchKey,
  type BatchRow,
  bytesOf,
  hexOf,
  toBatch,
} from "./batches.ts";

/** NOTIFY channel on which a new attestation is announced. */
export const ATTESTATIONS_CHANNEL = "attestations";

/** What an authority said of a batch: exactly one of `signature` and `refusal` is there. */
export interface Attestation extends BatchKey {
  /** Address, lower case. */
  readonly authority: Hex;
  readonly authoritySetEpoch: number;
  /** 65 bytes over the EIP-712 settlement. */
  readonly signature: Hex | undefined;
  /** Why the authority does not sign. */
  readonly refusal: string | undefined;
  readonly receivedMs: number;
}

interface Row {
  region_id: number;
  round: number;
  interval_end: bigint;
  authority: Buffer;
  authority_set_epoch: number;
  signature: Buffer | null;
  refusal: string | null;
  received_ms: bigint;
}

/**
 * Records an attestation whose signature the caller has verified, and announces it. The first one of an authority for
 * a batch and epoch stands, save that a signature replaces a refusal. Returns whether anything changed.
 */
export async function recordAttestation(db: Queryable, attestation: Attestation): Promise<boolean> {
  const result = await db.query(
    `with recorded as (
       insert into ledger.attestation as a
         (region_id, round, interval_end, authority, authority_set_epoch, signature, refusal, received_ms)
       values ($1, $2, $3, $4, $5, $6, $7, $8)
       on conflict (region_id, round, interval_end, authority, authority_set_epoch) do update
         set signature = excluded.signature, refusal = null, received_ms = excluded.received_ms
         where a.signature is null and excluded.signature is not null
       returning 1)
     select pg_notify('${ATTESTATIONS_CHANNEL}', '') from recorded`,
    [
      attestation.regionId,
      attestation.round,
      attestation.interval,
      bytesOf(attestation.authority),
      attestation.authoritySetEpoch,
      attestation.signature === undefined ? null : bytesOf(attestation.signature),
      attestation.refusal ?? null,
      attestation.receivedMs,
    ],
  );
  return (result.rowCount ?? 0) > 0;
}

/** All attestations of a batch, by epoch and authority. */
export async function attestationsOf(db: Queryable, key: BatchKey): Promise<readonly Attestation[]> {
  const result = await db.query<Row>(
    `select * from ledger.attestation where region_id = $1 and round = $2 and interval_end = $3
      order by authority_set_epoch, authority`,
    [key.regionId, key.round, key.interval],
  );
  return result.rows.map(toAttestation);
}

/**
 * Batches after the last one that the authority signed or refused in this epoch of the set: at most `limit`, taken
 * from the regions by turns, oldest first within a region, so that a region that waits holds up no other. Relies on
 * authorities attesting a region in order. Void batches are left out.
 */
export async function pendingFor(
  db: Queryable,
  authority: Hex,
  authoritySetEpoch: number,
  limit: number,
): Promise<readonly Batch[]> {
  const result = await db.query<BatchRow>(
    `select ${BATCH_COLUMNS}
       from ledger.region r
       left join lateral (
         select a.round, a.interval_end from ledger.attestation a
          where a.authority = $1 and a.authority_set_epoch = $2::bigint and a.region_id = r.region_id
          order by a.round desc, a.interval_end desc limit 1) done on true
       cross join lateral (
         select n.*, row_number() over (order by n.round, n.interval_end) as turn
           from (select * from ledger.batch
                  where region_id = r.region_id and voided_ms is null
                    and (round, interval_end) > (coalesce(done.round, 0), coalesce(done.interval_end, -1))
                  order by round, interval_end limit $3) n) b
      order by b.turn, b.region_id limit $3`,
    [bytesOf(authority), authoritySetEpoch, limit],
  );
  return result.rows.map(toBatch);
}

function toAttestation(row: Row): Attestation {
  return {
    regionId: row.region_id,
    round: row.round,
    interval: Number(row.interval_end),
    authority: hexOf(row.authority),
    authoritySetEpoch: row.authority_set_epoch,
    signature: row.signature === null ? undefined : hexOf(row.signature),
    refusal: row.refusal ?? undefined,
    receivedMs: Number(row.received_ms),
  };
}
