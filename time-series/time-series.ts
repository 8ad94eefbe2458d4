import type { Wh } from "../domain/metering/units.ts";

/** A reading as a point of the series. Key: (meterId, epoch, t, seq); writing a key again replaces it. */
export interface SeriesPoint {
  readonly region: string;
  readonly meterId: string;
  readonly epoch: number;
  readonly seq: number;
  /** Unix seconds. */
  readonly t: number;
  readonly importWh: Wh;
  readonly exportWh: Wh;
  readonly powerW?: number;
  readonly voltageDv?: number;
  readonly frequencyMhz?: number;
  readonly status: number;
}

/** Rollup resolutions in seconds; buckets are (start, end], named by their end, like intervals. */
export const RESOLUTIONS_S = [900, 3600, 86400] as const;
export type ResolutionS = (typeof RESOLUTIONS_S)[number];

/** One rollup bucket of a meter's epoch, computed from raw points only. */
export interface Bucket {
  readonly meterId: string;
  readonly epoch: number;
  /** The bucket's end, unix seconds. */
  readonly end: number;
  readonly resolutionS: ResolutionS;
  readonly count: number;
  readonly firstT: number;
  readonly lastT: number;
  readonly firstImportWh: Wh;
  readonly lastImportWh: Wh;
  readonly firstExportWh: Wh;
  readonly lastExportWh: Wh;
  /** Over the points that carry a power; absent where none does. */
  readonly minPowerW?: number;
  readonly meanPowerW?: number;
  readonly maxPowerW?: number;
  /** How often the bucket was computed; grows when late data repairs it. */
  readonly version: number;
}

/** How many meters of a region have a reading in an interval. */
export interface Completeness {
  readonly region: string;
  /** Interval end, unix seconds. */
  readonly end: number;
  readonly meters: number;
  readonly readings: number;
}

export interface SeriesRange {
  /** Exclusive start and inclusive end, unix seconds: (from, to]. */
  readonly from: number;
  readonly to: number;
}

/** A point that the store refuses for good, with its reason; the others were written. */
export interface RefusedPoint {
  readonly point: SeriesPoint;
  readonly reason: string;
}

/** How long raw points and each resolution are kept, seconds. */
export interface SeriesRetention {
  readonly rawS: number;
  readonly bucketS: Readonly<Record<ResolutionS, number>>;
}

/**
 * The port of the time series. Every method rejects with a retryable error while the store is away; nothing that
 * resolved is lost.
 */
export interface TimeSeries {
  /** Durable once resolved. Idempotent. Marks the buckets that the points touch for `repair`. */
  write(points: readonly SeriesPoint[]): Promise<readonly RefusedPoint[]>;
  /** Recomputes up to `limit` marked buckets of all resolutions from raw points; how many it did. */
  repair(limit: number): Promise<number>;
  /** Raw points of a meter over all epochs, by (t, epoch, seq), at most `limit`. */
  readings(meterId: string, range: SeriesRange, limit: number): Promise<readonly SeriesPoint[]>;
  /** Buckets whose end lies in the range, by (end, epoch), at most `limit`. */
  buckets(
    meterId: string,
    resolutionS: ResolutionS,
    range: SeriesRange,
    limit: number,
  ): Promise<readonly Bucket[]>;
  /** Per 15-minute interval whose end lies in the range, by end. Intervals without readings are absent. */
  completeness(region: string, range: SeriesRange): Promise<readonly Completeness[]>;
  /** Distinct readings stored for a region: the number of (meterId, epoch, seq). */
  countReadings(region: string): Promise<bigint>;
  /** Drops what is older than its retention at `nowS`. Idempotent. */
  expire(retention: SeriesRetention, nowS: number): Promise<void>;
  close(): Promise<void>;
}
