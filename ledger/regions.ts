import type { Connection, Queryable } from "../service/database.ts";
import { GridrootError } from "../service/errors.ts";

/** A region as configured. */
export interface RegionIdentity {
  /** The number on chain. */
  readonly regionId: number;
  readonly name: string;
  readonly utility: string;
}

/** How far a region is sealed. */
export interface RegionTip {
  readonly round: number;
  /** End of the last interval sealed or skipped, unix seconds; `undefined` before the first meter. */
  readonly sealedUntil: number | undefined;
  readonly registryVersion: bigint;
}

/**
 * Inserts the regions that are missing. Idempotent. Throws `region-differs` where the ledger has one of the numbers
 * under another name: batches and the chain already refer to it.
 */
export async function ensureRegions(db: Queryable, regions: readonly RegionIdentity[]): Promise<void> {
  await db.query(
    `insert into ledger.region (region_id, name, utility)
     select * from unnest($1::integer[], $2::text[], $3::text[]) on conflict (region_id) do nothing`,
    [
      regions.map((region) => region.regionId),
      regions.map((region) => region.name),
      regions.map((region) => region.utility),
    ],
  );
  const stored = await db.query<{ region_id: number; name: string }>(
    "select region_id, name from ledger.region",
  );
  const names = new Map(stored.rows.map((row) => [row.region_id, row.name]));
  const differing = regions.find((region) => names.get(region.regionId) !== region.name);
  if (differing !== undefined) {
    const { regionId, name } = differing;
    throw new GridrootError("region-differs", `region ${regionId} is ${names.get(regionId)}, not ${name}`);
  }
}

/** Where the region stands now. */
export async function readRegionTip(db: Queryable, regionId: number): Promise<RegionTip> {
  return tip(db, regionId, "");
}

/**
 * Locks the region's row until the transaction ends. Flushes share it; a seal, and a flush that moves the registry,
 * have it alone, so that whoever holds it alone reads states, offsets and progress that belong together. `no key`
 * lets foreign keys to the region be checked meanwhile.
 */
export async function lockRegion(
  connection: Connection,
  regionId: number,
  strength: "shared" | "alone",
): Promise<RegionTip> {
  return tip(connection, regionId, strength === "shared" ? "for share" : "for no key update");
}

async function tip(db: Queryable, regionId: number, lock: string): Promise<RegionTip> {
  const result = await db.query<{ round: number; sealed_until: bigint | null; registry_version: bigint }>(
    `select round, sealed_until, registry_version from ledger.region where region_id = $1 ${lock}`,
    [regionId],
  );
  const row = result.rows[0];
  if (row === undefined) throw new GridrootError("region-missing", `region ${regionId} is not in the ledger`);
  return {
    round: row.round,
    sealedUntil: row.sealed_until === null ? undefined : Number(row.sealed_until),
    registryVersion: row.registry_version,
  };
}

/** Moves the seal. Call it with the region locked alone. */
export async function moveSeal(connection: Connection, regionId: number, sealedUntil: number): Promise<void> {
  await connection.query("update ledger.region set sealed_until = $2 where region_id = $1", [
    regionId,
    sealedUntil,
  ]);
}
