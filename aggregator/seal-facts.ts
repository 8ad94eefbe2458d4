import { regionTopic } from "../event-log/topics.ts";
import { storedOffsets } from "../ledger/consumer-offsets.ts";
import { AGGREGATOR, loadBarriers, loadOpenings } from "../ledger/sealing.ts";
import { loadProgress } from "../ledger/service-point-states.ts";
import type { Queryable } from "../service/database.ts";
import type { SealFacts } from "./readiness.ts";
import type { RegionConfig } from "./region-watch.ts";

/**
 * Reads what a seal is decided from. The facts belong together only while the region's row is locked alone; without
 * the lock they are good enough to see whether it is worth taking.
 */
export async function readSealFacts(
  db: Queryable,
  region: RegionConfig,
  sealedUntil: number | undefined,
): Promise<SealFacts> {
  if (sealedUntil === undefined) {
    return { sealedUntil, progress: [], openings: [], barriers: [], offsets: [] };
  }
  const { regionId } = region;
  const progress = await loadProgress(db, regionId);
  const openings = await loadOpenings(db, regionId, sealedUntil);
  const barriers = await loadBarriers(db, regionId, sealedUntil);
  const offsets = await aggregatorOffsets(db, region);
  return { sealedUntil, progress, openings, barriers, offsets };
}

/** The aggregator's stored offset of each partition of a region that has one. */
export async function aggregatorOffsets(
  db: Queryable,
  region: RegionConfig,
): Promise<readonly { readonly partition: number; readonly nextOffset: bigint }[]> {
  const stored = await storedOffsets(db, regionTopic(region.name));
  return stored.filter(({ consumer }) => consumer === AGGREGATOR);
}
