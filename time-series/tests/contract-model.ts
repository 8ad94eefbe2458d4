import { intervalEnd } from "../../domain/metering/intervals.ts";
import type { Bucket, Completeness, ResolutionS, SeriesPoint } from "../time-series.ts";

/** A time series in plain memory: what the contract suite compares an adapter with. Rollups are always right. */
export class ModelSeries {
  readonly #points = new Map<string, SeriesPoint>();

  write(points: readonly SeriesPoint[]): void {
    for (const point of points) {
      this.#points.set(`${point.meterId} ${point.epoch} ${point.t} ${point.seq}`, point);
    }
  }

  readings(meterId: string): SeriesPoint[] {
    return this.#of((point) => point.meterId === meterId);
  }

  /** Without versions: how often an adapter computed a bucket is its own affair. */
  buckets(meterId: string, resolutionS: ResolutionS): Omit<Bucket, "version">[] {
    const points = this.#of((point) => point.meterId === meterId);
    const groups = Map.groupBy(
      points,
      (point) => `${intervalEnd(point.t, resolutionS)} ${point.epoch}` as const,
    );
    return [...groups.values()]
      .map((group) => toBucket(group, resolutionS))
      .sort((a, b) => a.end - b.end || a.epoch - b.epoch);
  }

  completeness(region: string): Completeness[] {
    const groups = Map.groupBy(
      this.#of((point) => point.region === region),
      (point) => intervalEnd(point.t, 900),
    );
    return [...groups]
      .map(([end, points]) => ({
        region,
        end,
        meters: new Set(points.map((point) => point.meterId)).size,
        readings: points.length,
      }))
      .sort((a, b) => a.end - b.end);
  }

  countReadings(region: string): bigint {
    const points = this.#of((point) => point.region === region);
    return BigInt(new Set(points.map(({ meterId, epoch, seq }) => `${meterId} ${epoch} ${seq}`)).size);
  }

  #of(wanted: (point: SeriesPoint) => boolean): SeriesPoint[] {
    return [...this.#points.values()]
      .filter(wanted)
      .sort((a, b) => a.t - b.t || a.epoch - b.epoch || a.seq - b.seq);
  }
}

function toBucket(points: readonly SeriesPoint[], resolutionS: ResolutionS): Omit<Bucket, "version"> {
  const first = points[0]!;
  const last = points.at(-1)!;
  const powers = points.map((point) => point.powerW).filter((powerW) => powerW !== undefined);
  const totalW = powers.reduce((sum, powerW) => sum + powerW, 0);
  return {
    meterId: first.meterId,
    epoch: first.epoch,
    end: intervalEnd(first.t, resolutionS),
    resolutionS,
    count: points.length,
    firstT: first.t,
    lastT: last.t,
    firstImportWh: first.importWh,
    lastImportWh: last.importWh,
    firstExportWh: first.exportWh,
    lastExportWh: last.exportWh,
    ...(powers.length === 0
      ? {}
      : {
          minPowerW: Math.min(...powers),
          meanPowerW: totalW / powers.length,
          maxPowerW: Math.max(...powers),
        }),
  };
}
