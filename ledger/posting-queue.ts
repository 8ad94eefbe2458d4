import type { Hex } from "../domain/settlement/settlement.ts";
import type { Queryable } from "../service/database.ts";
import { BATCH_COLUMNS, type Batch, type BatchKey, type BatchRow, hexOf, toBatch } from "./batches.ts";

/** What a region has to post, and what of it is under way. */
export interface RegionQueue {
  readonly regionId: number;
  /** Signed or broadcast, without a receipt of success. */
  readonly inFlight: number;
  /** The newest interval signed, broadcast or mined; `undefined` where nothing is under way. */
  readonly lastUnderWay: number | undefined;
  /** A transaction of the region failed and may yet be replaced. */
  readonly failing: boolean;
  /** Neither under way nor settled, oldest first. */
  readonly waiting: readonly Batch[];
}

interface QueueRow extends BatchRow {
  in_flight: bigint;
  last_under_way: bigint | null;
  failing: boolean;
}

/** The queues of all regions that have batches to post, each with at most `perRegion` of them. Void ones are left out. */
export async function postingQueues(db: Queryable, perRegion: number): Promise<readonly RegionQueue[]> {
  const result = await db.query<QueueRow>(
    `select ${BATCH_COLUMNS}, u.in_flight, u.last_under_way, u.failing
       from ledger.region r
       left join lateral (
         select round, interval_end from ledger.settlement
          where region_id = r.region_id and state in ('final', 'settled-externally')
          order by round desc, interval_end desc limit 1) done on true
       cross join lateral (
         select count(*) filter (where state in ('signed', 'broadcast')) as in_flight,
                max(interval_end) filter (where state in ('signed', 'broadcast', 'mined')) as last_under_way,
                exists (select from ledger.attempt a join ledger.settlement_attempt j using (attempt_id)
                         where j.region_id = r.region_id and j.live and a.state = 'mined' and not a.succeeded) as failing
           from ledger.settlement
          where region_id = r.region_id and state not in ('final', 'settled-externally')) u
       cross join lateral (
         select * from (
           (select b.* from ledger.settlement s join ledger.batch b using (region_id, round, interval_end)
             where s.region_id = r.region_id and s.state = 'reverted' and b.voided_ms is null
             order by b.round, b.interval_end limit $1)
           union all
           (select n.* from ledger.batch n
             where n.region_id = r.region_id and n.voided_ms is null
               and (n.round, n.interval_end) > (coalesce(done.round, 0), coalesce(done.interval_end, -1))
               and not exists (
                 select from ledger.settlement s
                  where (s.region_id, s.round, s.interval_end) = (n.region_id, n.round, n.interval_end))
             order by n.round, n.interval_end limit $1)) w
          order by round, interval_end limit $1) b
      order by r.region_id, b.round, b.interval_end`,
    [perRegion],
  );
  return [...Map.groupBy(result.rows, (row) => row.region_id).values()].map((rows) => ({
    regionId: rows[0]!.region_id,
    inFlight: Number(rows[0]!.in_flight),
    lastUnderWay: rows[0]!.last_under_way === null ? undefined : Number(rows[0]!.last_under_way),
    failing: rows[0]!.failing,
    waiting: rows.map(toBatch),
  }));
}

/** A signature as received, not verified. */
export interface ReceivedSignature {
  readonly authority: Hex;
  readonly signature: Hex;
}

/** The signatures of an epoch for each of the batches, in the batches' order, ascending by authority. */
export async function signaturesOf(
  db: Queryable,
  keys: readonly BatchKey[],
  authoritySetEpoch: number,
): Promise<readonly (readonly ReceivedSignature[])[]> {
  const result = await db.query<{ position: bigint; authority: Buffer; signature: Buffer }>(
    `select k.position, a.authority, a.signature
       from unnest($1::integer[], $2::integer[], $3::bigint[]) with ordinality
            as k (region_id, round, interval_end, position)
       join ledger.attestation a using (region_id, round, interval_end)
      where a.authority_set_epoch = $4 and a.signature is not null
      order by k.position, a.authority`,
    [
      keys.map((key) => key.regionId),
      keys.map((key) => key.round),
      keys.map((key) => key.interval),
      authoritySetEpoch,
    ],
  );
  const signatures: ReceivedSignature[][] = keys.map(() => []);
  for (const row of result.rows) {
    signatures[Number(row.position) - 1]!.push({
      authority: hexOf(row.authority),
      signature: hexOf(row.signature),
    });
  }
  return signatures;
}

/** Notes that the chain holds a batch by somebody else's transaction. Idempotent. */
export async function settleExternally(db: Queryable, key: BatchKey, nowMs: number): Promise<void> {
  await db.query(
    `insert into ledger.settlement as s (region_id, round, interval_end, state, changed_ms)
     values ($1, $2, $3, 'settled-externally', $4)
     on conflict (region_id, round, interval_end) do update
       set state = 'settled-externally', reason = null, changed_ms = $4 where s.state = 'reverted'`,
    [key.regionId, key.round, key.interval, nowMs],
  );
}

/** Notes why the chain would refuse a batch that is not under way. Idempotent. */
export async function refuseSettlement(
  db: Queryable,
  key: BatchKey,
  reason: string,
  nowMs: number,
): Promise<void> {
  await db.query(
    `insert into ledger.settlement as s (region_id, round, interval_end, state, reason, changed_ms)
     values ($1, $2, $3, 'reverted', $4, $5)
     on conflict (region_id, round, interval_end) do update
       set reason = $4, changed_ms = $5 where s.state = 'reverted' and s.reason is distinct from $4`,
    [key.regionId, key.round, key.interval, reason, nowMs],
  );
}
