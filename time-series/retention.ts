import { GridrootError } from "../service/errors.ts";
import { RESOLUTIONS_S, type SeriesRetention } from "./time-series.ts";

/**
 * Throws `series-retention` where a finer resolution would outlive a coarser one: late data is carried from raw
 * points to 15 minutes to hours to days, and a bucket computed from a part of its points would be wrong.
 */
export function assertRetention(retention: SeriesRetention): void {
  let finerS = retention.rawS;
  for (const resolutionS of RESOLUTIONS_S) {
    const keptS = retention.bucketS[resolutionS];
    if (keptS < finerS) {
      throw new GridrootError(
        "series-retention",
        `buckets of ${resolutionS} s must be kept at least as long as what they are computed from`,
      );
    }
    finerS = keptS;
  }
}
