import { type Barrier, type IntervalOpening, loadBarriers, saveOpenings } from "../ledger/sealing.ts";
import { readRegionTip } from "../ledger/regions.ts";
import type { Pool } from "../service/database.ts";

/** A region as configured. */
export interface RegionConfig {
  /** The number on chain. */
  readonly regionId: number;
  readonly name: string;
  readonly utility: string;
  /** The most credit that one interval may bring, Wh. */
  readonly capWh: bigint;
}

/**
 * What this process knows of a region's sealing: how far it is sealed, which barriers wait. It may lag behind the
 * ledger; whatever depends on it is checked there again.
 */
export class RegionWatch {
  readonly region: RegionConfig;
  readonly #pool: Pool;
  readonly #listeners = new Set<() => void>();
  readonly #openings = new Map<number, number>();
  #barriers: readonly Barrier[] = [];
  #sealedUntil: number | undefined;

  constructor(region: RegionConfig, dependencies: { readonly pool: Pool }) {
    this.region = region;
    this.#pool = dependencies.pool;
  }

  get sealedUntil(): number | undefined {
    return this.#sealedUntil;
  }

  /** Calls `listener` after each change; the returned function ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reads the ledger. */
  async refresh(): Promise<void> {
    const { regionId } = this.region;
    const { sealedUntil } = await readRegionTip(this.#pool, regionId);
    const barriers = await loadBarriers(this.#pool, regionId, sealedUntil ?? 0);
    if (sealedUntil !== undefined) this.#moveSeal(sealedUntil);
    this.#barriers = barriers;
    this.#changed();
  }

  /** Learns how far the region is sealed. */
  learnSeal(sealedUntil: number): void {
    if (this.#moveSeal(sealedUntil)) this.#changed();
  }

  /** Whether a seal waits for a partition, stored at `from`, to be stored at `to`. */
  barrierBetween(partition: number, from: bigint, to: bigint): boolean {
    return this.#barriers.some(
      (barrier) =>
        barrier.partition === partition &&
        barrier.interval > (this.#sealedUntil ?? 0) &&
        from < barrier.nextOffset &&
        to >= barrier.nextOffset,
    );
  }

  /** Whether the ledger may not know yet that the interval was opened so early. */
  isNews({ interval, firstAppendMs }: IntervalOpening): boolean {
    return firstAppendMs < (this.#openings.get(interval) ?? Number.POSITIVE_INFINITY);
  }

  /** Makes openings known to all sealers. */
  async announceOpenings(openings: readonly IntervalOpening[]): Promise<void> {
    const news = openings.filter((opening) => this.isNews(opening));
    if (news.length === 0) return;
    await saveOpenings(this.#pool, this.region.regionId, news);
    for (const { interval, firstAppendMs } of news) this.#openings.set(interval, firstAppendMs);
  }

  #moveSeal(sealedUntil: number): boolean {
    if (this.#sealedUntil !== undefined && sealedUntil <= this.#sealedUntil) return false;
    this.#sealedUntil = sealedUntil;
    for (const interval of this.#openings.keys()) {
      if (interval <= sealedUntil) this.#openings.delete(interval);
    }
    return true;
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}
