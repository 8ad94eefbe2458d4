import type { ResolutionS } from "../time-series.ts";
import type { TakenMark } from "./marks.ts";

/** Marks that one query serves: all of its meters over all of its time. */
export interface MarkCluster {
  readonly meterIds: readonly string[];
  /** First and last bucket end. */
  readonly firstEnd: number;
  readonly lastEnd: number;
  readonly marks: readonly TakenMark[];
}

/** A query over an index of many meters costs about as much as reading so many buckets that nobody asked for. */
const FREE_CELLS = 256;
/** How many buckets may be read for one that is marked. */
const CELLS_PER_MARK = 4;
/** Beyond it the test of a meter's name against the set outweighs another query. */
const MAX_METERS = 1_000;

/**
 * Cuts marks, sorted by bucket end, into clusters. All meters in one bucket, as live data leaves them, are one query;
 * so are many buckets of a meter, as a late device leaves them; what is scattered takes a query for each handful.
 */
export function clustersOf(marks: readonly TakenMark[], resolutionS: ResolutionS): MarkCluster[] {
  const clusters: MarkCluster[] = [];
  let rest = marks;
  while (rest.length > 0) {
    const meters = new Set<string>();
    const first = rest[0]!.end;
    let size = 0;
    for (const { meterId, end } of rest) {
      const meterCount = meters.size + (meters.has(meterId) ? 0 : 1);
      const cells = meterCount * ((end - first) / resolutionS + 1);
      if (size > 0 && (meterCount > MAX_METERS || cells > CELLS_PER_MARK * (size + 1) + FREE_CELLS)) break;
      meters.add(meterId);
      size += 1;
    }
    const taken = rest.slice(0, size);
    clusters.push({
      meterIds: [...meters],
      firstEnd: first,
      lastEnd: taken.at(-1)!.end,
      marks: taken,
    });
    rest = rest.slice(size);
  }
  return clusters;
}
