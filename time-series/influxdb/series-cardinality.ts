import type { Logger } from "pino";
import { Gauge, type Registry } from "prom-client";
import { PARTS, type InfluxBuckets, type Part } from "./influx-buckets.ts";
import type { InfluxHttp } from "./influx-http.ts";
import { countSeries } from "./read-series.ts";

const LOOK_EVERY_MS = 600_000;
const SERIES = "influx_cardinality_series";
const BOUND = "influx_cardinality_bound_series";

export interface CardinalityDependencies {
  readonly influx: InfluxHttp;
  readonly buckets: InfluxBuckets;
  readonly log: Logger;
  readonly metrics: Registry | undefined;
}

/**
 * How many series InfluxDB's index holds: its memory grows with them. Tags are only region, meter, epoch and lap; meters
 * are registered before they may publish, epochs are at most 256 and laps 17, so that a meter gone wild cannot raise them
 * without end. Growth is meters. Above the bound it is an alarm: refusing readings of a registered meter would lose what its owner
 * is entitled to see.
 */
export class SeriesCardinality {
  readonly #maxSeries: number;
  readonly #dependencies: CardinalityDependencies;
  readonly #series: Gauge<"part"> | undefined;
  #nextLook = 0;
  #isAbove = false;

  constructor(maxSeries: number, dependencies: CardinalityDependencies) {
    this.#maxSeries = maxSeries;
    this.#dependencies = dependencies;
    const { metrics } = dependencies;
    if (metrics === undefined) return;
    const registers = [metrics];
    // A series that is opened again after a failure takes the gauges over.
    for (const name of [SERIES, BOUND]) metrics.removeSingleMetric(name);
    this.#series = new Gauge({
      name: SERIES,
      help: "Series in the index of InfluxDB, by part of the time series: raw, 15m, 1h, 1d. Measured every 10 minutes.",
      labelNames: ["part"],
      registers,
    });
    new Gauge({
      name: BOUND,
      help: "Series of all parts together above which there is an alarm.",
      registers,
    }).set(maxSeries);
  }

  /** Measures at most every 10 minutes. A measurement that fails is left out: nothing depends on it. */
  async lookWhenDue(): Promise<void> {
    if (performance.now() < this.#nextLook) return;
    this.#nextLook = performance.now() + LOOK_EVERY_MS;
    try {
      await this.#look();
    } catch (error) {
      this.#dependencies.log.debug({ err: error }, "series of InfluxDB are not counted now");
    }
  }

  async #look(): Promise<void> {
    const { influx, buckets, log } = this.#dependencies;
    const counts = new Map<Part, number>();
    for (const part of PARTS) counts.set(part, await countSeries(influx, buckets.nameOf(part)));
    for (const [part, count] of counts) this.#series?.set({ part }, count);
    const series = [...counts.values()].reduce((sum, count) => sum + count, 0);
    const isAbove = series > this.#maxSeries;
    const fields = { series, maxSeries: this.#maxSeries };
    if (isAbove && !this.#isAbove) log.error(fields, "InfluxDB holds more series than it is sized for");
    if (!isAbove && this.#isAbove) log.info(fields, "InfluxDB holds no more series than it is sized for");
    this.#isAbove = isAbove;
  }
}
