import { isName } from "../domain/metering/topics.ts";
import type { RefusedPoint, SeriesPoint } from "./time-series.ts";

const INT32_MAX = 2 ** 31 - 1;

/** What an adapter can hold beyond what every one can. */
export interface PointLimits {
  /** Latest instant, unix seconds. */
  readonly maxT: number;
  /** Highest register epoch. */
  readonly maxEpoch: number;
}

/** Why an adapter can never hold a point: `name`, `t-out-of-range`, `out-of-range`; or `undefined`. */
export function refusalOf(point: SeriesPoint, limits: PointLimits): string | undefined {
  if (!isName(point.meterId) || !isName(point.region)) return "name";
  if (!isBetween(point.t, 1, limits.maxT)) return "t-out-of-range";
  if (!isBetween(point.seq, 0, Number.MAX_SAFE_INTEGER)) return "out-of-range";
  if (!isBetween(point.epoch, 0, limits.maxEpoch)) return "out-of-range";
  const registers = [point.importWh, point.exportWh];
  if (registers.some((value) => value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER))) return "out-of-range";
  const small = [point.status, point.voltageDv ?? 0, point.frequencyMhz ?? 0];
  const fit = small.every((value) => isBetween(value, 0, INT32_MAX));
  return fit && isBetween(point.powerW ?? 0, -INT32_MAX, INT32_MAX) ? undefined : "out-of-range";
}

/** Keeps the points without a reason against them and adds the others to `refused`. */
export function withoutRefused(
  points: readonly SeriesPoint[],
  refused: RefusedPoint[],
  reasonAgainst: (point: SeriesPoint) => string | undefined,
): readonly SeriesPoint[] {
  return points.filter((point) => {
    const reason = reasonAgainst(point);
    if (reason !== undefined) refused.push({ point, reason });
    return reason === undefined;
  });
}

function isBetween(value: number, min: number, max: number): boolean {
  return Number.isSafeInteger(value) && value >= min && value <= max;
}
