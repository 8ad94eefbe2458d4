import type { SeriesPoint } from "../time-series.ts";
import type { PointLimits } from "../refusals.ts";

/** Instants are int64 nanoseconds in InfluxDB, which end in 2262. Epochs are tags, so their number is bounded. */
export const INFLUX_LIMITS: PointLimits = { maxT: 9_223_372_034, maxEpoch: 255 };

/** Readings of one second lie apart by their seq, in nanoseconds. */
export const SLOTS = 1_000_000_000;

/** How often a seq may have passed all nanoseconds of a second and still be told apart by the tag `lap` alone. */
const LAPS = 16;

/** Bits of the field `present`: which of the optional fields the last write had. */
export const PRESENT = { powerW: 1, voltageDv: 2, frequencyMhz: 4 } as const;

/**
 * Whether a reading's seq is beyond what nanosecond and lap can tell apart, as with milliseconds of unix time. Such lie
 * in a lap of their own, in which two can meet, see `claimWideSeqs`.
 */
export function isWide({ seq }: Pick<SeriesPoint, "seq">): boolean {
  return seq >= LAPS * SLOTS;
}

/** Measurement, tags (sorted by their names) and nanosecond: two points with the same are one point to InfluxDB. */
export interface PointPlace {
  readonly series: string;
  readonly time: string;
}

/**
 * Where a point lies. Names are those that `refusalOf` lets pass, in which nothing needs to be escaped.
 */
export function placeOf(point: SeriesPoint): PointPlace {
  const { epoch, meterId, region, seq, t } = point;
  const lap = isWide(point) ? "wide" : Math.floor(seq / SLOTS);
  return {
    series: `reading,epoch=${epoch},lap=${lap},meter=${meterId},region=${region}`,
    time: `${t}${String(seq % SLOTS).padStart(9, "0")}`,
  };
}

/**
 * A point's line. InfluxDB keeps the fields of an earlier write that a later one does not have; `present` tells which
 * optional ones count.
 */
export function pointLine(point: SeriesPoint, { series, time }: PointPlace): string {
  const { importWh, exportWh, powerW, voltageDv, frequencyMhz, seq, status } = point;
  const present =
    (powerW === undefined ? 0 : PRESENT.powerW) +
    (voltageDv === undefined ? 0 : PRESENT.voltageDv) +
    (frequencyMhz === undefined ? 0 : PRESENT.frequencyMhz);
  return (
    `${series} export_wh=${exportWh}i` +
    `${frequencyMhz === undefined ? "" : `,frequency_mhz=${frequencyMhz}i`},import_wh=${importWh}i` +
    `${powerW === undefined ? "" : `,power_w=${powerW}i`},present=${present}i,seq=${seq}i,status=${status}i` +
    `${voltageDv === undefined ? "" : `,voltage_dv=${voltageDv}i`} ${time}`
  );
}

/** The nanosecond of an instant in unix seconds. */
export function nanosOf(t: number): string {
  return `${t}000000000`;
}
