import type { Hex } from "../domain/settlement/settlement.ts";
import { GridrootError } from "../service/errors.ts";
import type { Connection, Queryable } from "../service/database.ts";
import { type BatchKey, bytesOf, hexOf } from "./batches.ts";

/** Whose nonces: one lane of one chain. */
export interface Lane {
  readonly chainId: number;
  /** Address, lower case. */
  readonly sender: Hex;
}

/** Where an attempt stands; `signed` is before the first send that the node took. */
export type AttemptState = "signed" | "broadcast" | "mined" | "final" | "reverted" | "superseded";

/** Signed bytes that may use an attempt's nonce. */
export interface SignedTransaction {
  readonly hash: Hex;
  readonly raw: Hex;
  readonly gasLimit: bigint;
  /** Per gas, EIP-1559. */
  readonly maxFeeWei: bigint;
  /** Per gas. */
  readonly maxPriorityFeeWei: bigint;
}

/** What a receipt says. */
export interface Inclusion {
  readonly hash: Hex;
  readonly succeeded: boolean;
  readonly blockNumber: number;
  readonly blockHash: Hex;
  readonly gasUsed: bigint;
}

/** A nonce, the bytes that may use it and the batches that they settle. */
export interface Attempt {
  readonly attemptId: bigint;
  readonly nonce: number;
  readonly contract: Hex;
  readonly state: AttemptState;
  /** Newest last; at least one. */
  readonly transactions: readonly SignedTransaction[];
  readonly settlements: readonly BatchKey[];
  readonly inclusion: Inclusion | undefined;
}

/** What is to be journalled before it is sent. */
export interface NewAttempt {
  readonly nonce: number;
  readonly contract: Hex;
  readonly transaction: SignedTransaction;
  readonly settlement: BatchKey;
}

/**
 * Locks the lane until the end of the transaction and returns the nonce after the highest that the journal holds; 0
 * where it holds none.
 */
export async function lockLane(connection: Connection, lane: Lane): Promise<number> {
  await connection.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", [
    `nonces ${lane.chainId} ${lane.sender}`,
  ]);
  const result = await connection.query<{ next: bigint }>(
    "select coalesce(max(nonce) + 1, 0) as next from ledger.attempt where chain_id = $1 and sender = $2",
    [lane.chainId, bytesOf(lane.sender)],
  );
  return Number(result.rows[0]!.next);
}

/**
 * Journals signed transactions and returns their attempts' ids in the same order. Call it in the transaction of
 * `lockLane`. Throws `settlement-taken` where a batch is under way, settled or has another live attempt; then roll
 * back.
 */
export async function journalAttempts(
  connection: Connection,
  lane: Lane,
  attempts: readonly NewAttempt[],
  nowMs: number,
): Promise<readonly bigint[]> {
  const keys = keyColumns(attempts.map((attempt) => attempt.settlement));
  const taken = await connection.query(
    `insert into ledger.settlement as s (region_id, round, interval_end, state, changed_ms)
     select *, 'signed', $4 from unnest($1::integer[], $2::integer[], $3::bigint[])
     on conflict (region_id, round, interval_end) do update
       set state = 'signed', reason = null, changed_ms = $4 where s.state = 'reverted'`,
    [...keys, nowMs],
  );
  if (taken.rowCount !== attempts.length) {
    throw new GridrootError("settlement-taken", "a batch is already under way", { retryable: true });
  }
  const inserted = await connection.query<{ attempt_id: bigint; nonce: bigint }>(
    `insert into ledger.attempt (chain_id, sender, nonce, contract, state, changed_ms)
     select $1, $2, nonce, contract, 'signed', $3 from unnest($4::bigint[], $5::bytea[]) as n (nonce, contract)
     returning attempt_id, nonce`,
    [
      lane.chainId,
      bytesOf(lane.sender),
      nowMs,
      attempts.map((attempt) => attempt.nonce),
      attempts.map((attempt) => bytesOf(attempt.contract)),
    ],
  );
  const idByNonce = new Map(inserted.rows.map((row) => [Number(row.nonce), row.attempt_id]));
  const ids = attempts.map((attempt) => idByNonce.get(attempt.nonce)!);
  const transactions = attempts.map((attempt) => attempt.transaction);
  await connection.query(
    `insert into ledger.attempt_transaction
       (attempt_id, hash, raw, gas_limit, max_fee_wei, max_priority_fee_wei, signed_ms)
     select *, $7 from unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::numeric[], $6::numeric[])`,
    [
      ids,
      transactions.map((transaction) => bytesOf(transaction.hash)),
      transactions.map((transaction) => bytesOf(transaction.raw)),
      transactions.map((transaction) => transaction.gasLimit),
      transactions.map((transaction) => transaction.maxFeeWei),
      transactions.map((transaction) => transaction.maxPriorityFeeWei),
      nowMs,
    ],
  );
  await connection.query(
    `insert into ledger.settlement_attempt (region_id, round, interval_end, attempt_id)
     select * from unnest($1::integer[], $2::integer[], $3::bigint[], $4::bigint[])`,
    [...keys, ids],
  );
  return ids;
}

interface Row {
  attempt_id: bigint;
  nonce: bigint;
  contract: Buffer;
  state: AttemptState;
  succeeded: boolean | null;
  mined_hash: Buffer | null;
  block_number: bigint | null;
  block_hash: Buffer | null;
  gas_used: bigint | null;
  hashes: readonly Buffer[];
  raws: readonly Buffer[];
  gas_limits: readonly string[];
  max_fees: readonly string[];
  max_priority_fees: readonly string[];
  region_ids: readonly number[];
  rounds: readonly number[];
  intervals: readonly string[];
}

const SELECT = `select a.attempt_id, a.nonce, a.contract, a.state, a.succeeded, a.mined_hash, a.block_number,
    a.block_hash, a.gas_used, t.*, k.*
  from ledger.attempt a
  cross join lateral (
    select array_agg(hash order by signed_ms, hash) as hashes, array_agg(raw order by signed_ms, hash) as raws,
           array_agg(gas_limit::text order by signed_ms, hash) as gas_limits,
           array_agg(max_fee_wei::text order by signed_ms, hash) as max_fees,
           array_agg(max_priority_fee_wei::text order by signed_ms, hash) as max_priority_fees
      from ledger.attempt_transaction where attempt_id = a.attempt_id) t
  cross join lateral (
    select array_agg(region_id order by region_id) as region_ids, array_agg(round order by region_id) as rounds,
           array_agg(interval_end::text order by region_id) as intervals
      from ledger.settlement_attempt where attempt_id = a.attempt_id) k`;

/** Attempts of the lane that no receipt was seen of, by nonce. */
export async function unminedAttempts(db: Queryable, lane: Lane): Promise<readonly Attempt[]> {
  return selectAttempts(
    db,
    `${SELECT} where a.chain_id = $1 and a.sender = $2 and a.state in ('signed', 'broadcast') order by a.nonce`,
    [lane.chainId, bytesOf(lane.sender)],
  );
}

/** Mined attempts of the lane in blocks up to `blockNumber`, by nonce; at most `limit`. */
export async function minedAttempts(
  db: Queryable,
  lane: Lane,
  blockNumber: number,
  limit: number,
): Promise<readonly Attempt[]> {
  return selectAttempts(
    db,
    `${SELECT} where a.chain_id = $1 and a.sender = $2 and a.state = 'mined' and a.block_number <= $3
      order by a.nonce limit $4`,
    [lane.chainId, bytesOf(lane.sender), blockNumber, limit],
  );
}

/** Attempts of the lane that were included, from `nonce` on: what a chain with that next nonce has lost. */
export async function includedFrom(
  db: Queryable,
  lane: Lane,
  nonce: number,
  limit: number,
): Promise<readonly Attempt[]> {
  return selectAttempts(
    db,
    `${SELECT} where a.chain_id = $1 and a.sender = $2 and a.nonce >= $3 and a.mined_hash is not null
      order by a.nonce limit $4`,
    [lane.chainId, bytesOf(lane.sender), nonce, limit],
  );
}

async function selectAttempts(
  db: Queryable,
  sql: string,
  parameters: readonly unknown[],
): Promise<readonly Attempt[]> {
  const result = await db.query<Row>(sql, [...parameters]);
  return result.rows.map(toAttempt);
}

/** Contracts, other than `contract`, that the lane's chain was used for: the journal belongs to another deployment. */
export async function otherContracts(db: Queryable, chainId: number, contract: Hex): Promise<readonly Hex[]> {
  const result = await db.query<{ contract: Buffer }>(
    "select distinct contract from ledger.attempt where chain_id = $1 and contract <> $2",
    [chainId, bytesOf(contract)],
  );
  return result.rows.map((row) => hexOf(row.contract));
}

/** A step of one attempt. `reverted` and `superseded` prove that it settles nothing and free its batches. */
export interface AttemptStep {
  readonly attemptId: bigint;
  /** The state it was seen in; where it is in another by now, the step is left out. */
  readonly was: AttemptState;
  readonly state: AttemptState;
  /** What the receipt says; `undefined` where there is none (any more). */
  readonly inclusion: Inclusion | undefined;
  /** Why nothing was settled; for `reverted` and `superseded`. */
  readonly reason?: string | undefined;
}

/**
 * Moves attempts and the settlements that they carry, in one statement. A settlement is `mined` only in a transaction
 * that succeeded, and follows no attempt that was once proven to settle nothing.
 */
export async function moveAttempts(
  db: Queryable,
  steps: readonly AttemptStep[],
  nowMs: number,
): Promise<void> {
  if (steps.length === 0) return;
  const inclusions = steps.map((step) => step.inclusion);
  await db.query(
    `with step as (
       select * from unnest($1::bigint[], $2::text[], $3::text[], $4::boolean[], $5::bytea[], $6::bigint[],
                            $7::bytea[], $8::bigint[], $9::text[], $10::text[], $11::boolean[])
         as n (attempt_id, was, state, succeeded, mined_hash, block_number, block_hash, gas_used,
               settlement_state, reason, ended)
     ), moved as (
       update ledger.attempt a
          set state = n.state, succeeded = n.succeeded, mined_hash = n.mined_hash, block_number = n.block_number,
              block_hash = n.block_hash, gas_used = n.gas_used, changed_ms = $12
         from step n where a.attempt_id = n.attempt_id and a.state = n.was
       returning n.attempt_id, n.settlement_state, n.reason, n.ended
     ), carried as (
       update ledger.settlement_attempt j set live = not m.ended from moved m where j.attempt_id = m.attempt_id and j.live
       returning j.region_id, j.round, j.interval_end, m.settlement_state, m.reason
     )
     update ledger.settlement s set state = c.settlement_state, reason = c.reason, changed_ms = $12 from carried c
      where (s.region_id, s.round, s.interval_end) = (c.region_id, c.round, c.interval_end)`,
    [
      steps.map((step) => step.attemptId),
      steps.map((step) => step.was),
      steps.map((step) => step.state),
      inclusions.map((inclusion) => inclusion?.succeeded ?? null),
      inclusions.map((inclusion) => (inclusion === undefined ? null : bytesOf(inclusion.hash))),
      inclusions.map((inclusion) => inclusion?.blockNumber ?? null),
      inclusions.map((inclusion) => (inclusion === undefined ? null : bytesOf(inclusion.blockHash))),
      inclusions.map((inclusion) => inclusion?.gasUsed ?? null),
      steps.map(settlementState),
      steps.map((step) => step.reason ?? null),
      steps.map((step) => step.state === "reverted" || step.state === "superseded"),
      nowMs,
    ],
  );
}

function settlementState(step: AttemptStep): string {
  if (step.state === "superseded") return "reverted";
  // A failed transaction may still be replaced by a reorganisation: until its end is final nothing is known.
  return step.state === "mined" && step.inclusion?.succeeded === false ? "broadcast" : step.state;
}

function keyColumns(keys: readonly BatchKey[]): [number[], number[], number[]] {
  return [keys.map((key) => key.regionId), keys.map((key) => key.round), keys.map((key) => key.interval)];
}

function toAttempt(row: Row): Attempt {
  return {
    attemptId: row.attempt_id,
    nonce: Number(row.nonce),
    contract: hexOf(row.contract),
    state: row.state,
    transactions: row.hashes.map((hash, i) => ({
      hash: hexOf(hash),
      raw: hexOf(row.raws[i]!),
      gasLimit: BigInt(row.gas_limits[i]!),
      maxFeeWei: BigInt(row.max_fees[i]!),
      maxPriorityFeeWei: BigInt(row.max_priority_fees[i]!),
    })),
    settlements: row.region_ids.map((regionId, i) => ({
      regionId,
      round: row.rounds[i]!,
      interval: Number(row.intervals[i]),
    })),
    inclusion:
      row.mined_hash === null
        ? undefined
        : {
            hash: hexOf(row.mined_hash),
            succeeded: row.succeeded!,
            blockNumber: Number(row.block_number),
            blockHash: hexOf(row.block_hash!),
            gasUsed: row.gas_used!,
          },
  };
}
