import { promisify } from "node:util";
import { zstdCompress } from "node:zlib";
import { wh } from "../../domain/metering/units.ts";
import { type Batch, type BoundaryValue, buildBatch } from "../../domain/settlement/batch.ts";
import type { Evidence } from "../../domain/settlement/evidence.ts";
import { createHasher } from "../../domain/settlement/hasher.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import type { Pool } from "../../service/database.ts";

const compress = promisify(zstdCompress);
const hasher = await createHasher();

function bytes(hex: Hex): Buffer {
  return Buffer.from(hex.slice(2), "hex");
}

/** An account by number. */
export function accountOf(n: number): Hex {
  return `0x${n.toString(16).padStart(40, "0")}`;
}

/** Puts a region in the ledger. */
export async function seedRegion(pool: Pool, regionId: number, name: string): Promise<void> {
  await pool.query("insert into ledger.region (region_id, name, utility) values ($1, $2, 'mea')", [
    regionId,
    name,
  ]);
}

/** Puts a meter in the ledger: service point and account have its number. */
export async function seedMeter(pool: Pool, regionId: number, n: number, at: number): Promise<string> {
  const meterId = `meter-${n}`;
  await pool.query(
    `insert into ledger.meter (meter_id, region_id, utility, service_point, account, modulus_wh, max_power_w, secret_sha256,
                        commissioned_at)
     values ($1, $2, 'mea', $3, $4, 1000000000, 15000, $5, $6)`,
    [meterId, regionId, `sp-${n}`, bytes(accountOf(n)), Buffer.alloc(32, 7), at],
  );
  return meterId;
}

/** Builds the batch after `previous`, crediting each meter its number times `scale`, and seals it in the ledger. */
export async function seedBatch(
  pool: Pool,
  previous: Evidence | undefined,
  input: { region: number; interval: number; meters: readonly number[]; scale: bigint; round?: number },
): Promise<Batch> {
  const boundaries = input.meters.map((n): BoundaryValue => ({
    ...{ servicePoint: `sp-${n}`, account: accountOf(n), creditWh: wh(BigInt(n) * input.scale) },
    ...{ meterId: `meter-${n}`, epoch: 0, seq: 1, t: input.interval },
  }));
  const batch = buildBatch(hasher, previous, {
    ...{ region: input.region, round: input.round ?? 0, interval: input.interval, intervalLengthS: 900 },
    ...{ capWh: wh(1_000_000), registryVersion: 1n, offsets: [{ partition: 0, nextOffset: 5n }], boundaries },
  });
  const { content, evidence } = batch;
  const key = [content.region, content.round, content.interval];
  await pool.query(
    `insert into ledger.batch (region_id, round, interval_end, prev_interval, prev_root, root, interval_credit_wh,
       cumulative_credit_wh, cumulative_debit_wh, held_wh, leaf_count, data_hash, content_hash, registry_version,
       sealed_ms)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1, 1700000000000)`,
    [
      ...key,
      content.prevInterval,
      bytes(content.prevRoot),
      bytes(content.root),
      content.intervalCreditWh,
      content.cumulativeCreditWh,
      content.cumulativeDebitWh,
      evidence.accounts.reduce((sum, account) => sum + account.heldWh, 0n),
      content.leafCount,
      bytes(content.dataHash),
      bytes(batch.contentHash),
    ],
  );
  await pool.query("insert into ledger.evidence values ($1, $2, $3, $4)", [
    ...key,
    await compress(batch.file),
  ]);
  await pool.query("update ledger.region set sealed_until = $2 where region_id = $1", [key[0], key[2]]);
  return batch;
}
