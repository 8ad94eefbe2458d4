import { zstdDecompress } from "node:zlib";
import { promisify } from "node:util";
import type { SettlementContent } from "../domain/settlement/message.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { type Wh, wh } from "../domain/metering/units.ts";
import type { Queryable } from "../service/database.ts";

/** NOTIFY channel on which sealing announces that a region has new batches. */
export const BATCHES_CHANNEL = "batches";

/** What names a batch. */
export interface BatchKey {
  readonly regionId: number;
  readonly round: number;
  /** The interval's end, unix seconds. */
  readonly interval: number;
}

/** A sealed batch. */
export interface Batch extends BatchKey {
  /** The region's name. */
  readonly region: string;
  /** What authorities sign, save the epoch of their set. */
  readonly content: SettlementContent;
  readonly contentHash: Hex;
  /** Above the cap, waiting for a later batch. */
  readonly heldWh: Wh;
  readonly registryVersion: bigint;
  readonly sealedMs: number;
  readonly voidedMs: number | undefined;
}

/** A row of `batch` with the region's name, as `BATCH_COLUMNS` selects it. */
export interface BatchRow {
  region_id: number;
  region: string;
  round: number;
  interval_end: bigint;
  prev_interval: bigint;
  prev_root: Buffer;
  root: Buffer;
  interval_credit_wh: bigint;
  cumulative_credit_wh: bigint;
  cumulative_debit_wh: bigint;
  held_wh: bigint;
  leaf_count: number;
  data_hash: Buffer;
  content_hash: Buffer;
  registry_version: bigint;
  sealed_ms: bigint;
  voided_ms: bigint | null;
}

/** Columns of a `BatchRow` from `batch b join region r using (region_id)`. */
export const BATCH_COLUMNS = `b.region_id, r.name as region, b.round, b.interval_end, b.prev_interval, b.prev_root,
  b.root, b.interval_credit_wh, b.cumulative_credit_wh, b.cumulative_debit_wh, b.held_wh, b.leaf_count, b.data_hash,
  b.content_hash, b.registry_version, b.sealed_ms, b.voided_ms`;

/** The batch of a region's interval in the given round, by default in the newest that has one that is not void. */
export async function findBatch(
  db: Queryable,
  key: { readonly region: string; readonly interval: number; readonly round?: number | undefined },
): Promise<Batch | undefined> {
  const result = await db.query<BatchRow>(
    `select ${BATCH_COLUMNS} from ledger.batch b join ledger.region r using (region_id)
      where r.name = $1 and b.interval_end = $2 and ($3::bigint is null or b.round = $3)
      order by b.voided_ms is not null, b.round desc limit 1`,
    [key.region, key.interval, key.round ?? null],
  );
  return result.rows[0] === undefined ? undefined : toBatch(result.rows[0]);
}

/** Batches of one region or of all, newest interval first, below `beforeInterval`; at most `limit`. */
export async function listBatches(
  db: Queryable,
  page: {
    readonly region?: string | undefined;
    readonly beforeInterval?: number | undefined;
    readonly limit: number;
  },
): Promise<readonly Batch[]> {
  const result = await db.query<BatchRow>(
    `select ${BATCH_COLUMNS} from ledger.batch b join ledger.region r using (region_id)
      where ($1::text is null or r.name = $1) and ($2::bigint is null or b.interval_end < $2)
      order by b.interval_end desc, b.region_id, b.round desc limit $3`,
    [page.region ?? null, page.beforeInterval ?? null, page.limit],
  );
  return result.rows.map(toBatch);
}

/** The batch of a region whose evidence file has this hash: what a later file's `prevDataHash` names. */
export async function findBatchByDataHash(
  db: Queryable,
  key: { readonly regionId: number; readonly interval: number; readonly dataHash: Hex },
): Promise<Batch | undefined> {
  const result = await db.query<BatchRow>(
    `select ${BATCH_COLUMNS} from ledger.batch b join ledger.region r using (region_id)
      where b.region_id = $1 and b.interval_end = $2 and b.data_hash = $3 limit 1`,
    [key.regionId, key.interval, bytesOf(key.dataHash)],
  );
  return result.rows[0] === undefined ? undefined : toBatch(result.rows[0]);
}

const decompress = promisify(zstdDecompress);

/** The evidence file of a batch, decompressed: its keccak-256 is the batch's `dataHash`. */
export async function readEvidence(db: Queryable, key: BatchKey): Promise<Buffer | undefined> {
  const result = await db.query<{ file_zstd: Buffer }>(
    "select file_zstd from ledger.evidence where region_id = $1 and round = $2 and interval_end = $3",
    [key.regionId, key.round, key.interval],
  );
  return result.rows[0] === undefined ? undefined : decompress(result.rows[0].file_zstd);
}

/** Reads a row. */
export function toBatch(row: BatchRow): Batch {
  const key = { regionId: row.region_id, round: row.round, interval: Number(row.interval_end) };
  return {
    ...key,
    region: row.region,
    content: {
      region: key.regionId,
      round: key.round,
      interval: key.interval,
      prevInterval: Number(row.prev_interval),
      prevRoot: hexOf(row.prev_root),
      root: hexOf(row.root),
      intervalCreditWh: wh(row.interval_credit_wh),
      cumulativeCreditWh: wh(row.cumulative_credit_wh),
      cumulativeDebitWh: wh(row.cumulative_debit_wh),
      leafCount: row.leaf_count,
      dataHash: hexOf(row.data_hash),
    },
    contentHash: hexOf(row.content_hash),
    heldWh: wh(row.held_wh),
    registryVersion: row.registry_version,
    sealedMs: Number(row.sealed_ms),
    voidedMs: row.voided_ms === null ? undefined : Number(row.voided_ms),
  };
}

/** A `bytea` column as hex. */
export function hexOf(bytes: Buffer): Hex {
  return `0x${bytes.toString("hex")}`;
}

/** Hex as a `bytea` parameter. */
export function bytesOf(hex: Hex): Buffer {
  return Buffer.from(hex.slice(2), "hex");
}
