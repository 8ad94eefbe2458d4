import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { systemClock, type Clock } from "../../service/clock.ts";
import { openPool, type Pool } from "../../service/database.ts";
import { migrate } from "../../service/migrate.ts";
import { showPool } from "../../service/pool-gauges.ts";
import { MeterNumbers } from "../meter-numbers.ts";
import { refusalOf, withoutRefused, type PointLimits } from "../refusals.ts";
import { isPartitionMissing, seriesError } from "../series-error.ts";
import {
  RESOLUTIONS_S,
  type Bucket,
  type Completeness,
  type RefusedPoint,
  type ResolutionS,
  type SeriesPoint,
  type SeriesRange,
  type SeriesRetention,
  type TimeSeries,
} from "../time-series.ts";
import { Partitions } from "./partitions.ts";
import { countIdentities, readBuckets, readCompleteness, readPoints } from "./read-series.ts";
import { repairBuckets, type OpenBucketDelayS } from "./repair-buckets.ts";
import { writePoints } from "./write-points.ts";

export interface PostgresTimeSeriesOptions {
  readonly connectionString: string;
  /** Default 4. */
  readonly maxConnections?: number;
  /** How long a statement may take before its connection is given up, ms; writes are idempotent. Default 30,000. */
  readonly statementTimeoutMs?: number;
  /**
   * How long a bucket that is still open waits to be computed anew after a reading, seconds by resolution. Closed
   * buckets do not wait. Defaults: 30, 60, 300.
   */
  readonly openBucketDelayS?: OpenBucketDelayS;
}

export interface PostgresTimeSeriesDependencies {
  readonly log: Logger;
  /** Where its pool is shown. */
  readonly metrics?: Registry;
  /** Tells open buckets from closed ones. Default: the system's. */
  readonly clock?: Clock;
}

/** Until the end of year 9999, so that a wild clock does not open partitions without end. */
const LIMITS: PointLimits = { maxT: 253_402_300_799, maxEpoch: 2 ** 31 - 1 };
const STATEMENT_TIMEOUT_MS = 30_000;
const OPEN_BUCKET_DELAY_S: OpenBucketDelayS = { 900: 30, 3600: 60, 86400: 300 };

/**
 * The time series in schema `series` of a PostgreSQL database. Several processes may write, repair and expire at
 * the same time. Refuses for good: `name`, `t-out-of-range`, `out-of-range` (what the columns cannot hold),
 * `expired` (raw points of that day were dropped), `region-changed` (a meter belongs to the region it was first
 * written with).
 */
export class PostgresTimeSeries implements TimeSeries {
  readonly #options: PostgresTimeSeriesOptions;
  readonly #clock: Clock;
  readonly #pool: Pool;
  readonly #meters: MeterNumbers;
  readonly #partitions: Partitions;

  private constructor(options: PostgresTimeSeriesOptions, dependencies: PostgresTimeSeriesDependencies) {
    this.#options = options;
    this.#clock = dependencies.clock ?? systemClock;
    const url = new URL(options.connectionString);
    url.searchParams.set("query_timeout", String(options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS));
    this.#pool = openPool(
      {
        connectionString: url.href,
        applicationName: "gridroot time series",
        maxConnections: options.maxConnections ?? 4,
      },
      (error) => dependencies.log.warn({ err: error }, "idle connection of the time series failed"),
    );
    if (dependencies.metrics !== undefined) showPool("time-series", this.#pool, dependencies.metrics);
    this.#meters = new MeterNumbers(this.#pool, "series.meter");
    this.#partitions = new Partitions(this.#pool);
  }

  /** Connects and brings the schema `series` up to date. Concurrent callers wait for one another. */
  static async open(
    options: PostgresTimeSeriesOptions,
    dependencies: PostgresTimeSeriesDependencies,
  ): Promise<PostgresTimeSeries> {
    const series = new PostgresTimeSeries(options, dependencies);
    try {
      await series.#run(() => migrate(series.#pool, "series", new URL("migrations/", import.meta.url)));
    } catch (cause) {
      await series.close();
      throw cause;
    }
    return series;
  }

  async write(points: readonly SeriesPoint[]): Promise<readonly RefusedPoint[]> {
    return await this.#run(async () => {
      try {
        return await this.#write(points);
      } catch (cause) {
        if (!isPartitionMissing(cause)) throw cause;
        this.#partitions.forget();
        return await this.#write(points);
      }
    });
  }

  async #write(points: readonly SeriesPoint[]): Promise<readonly RefusedPoint[]> {
    const refused: RefusedPoint[] = [];
    const storable = withoutRefused(points, refused, (point) => refusalOf(point, LIMITS));
    await this.#partitions.ensure(storable.map((point) => point.t));
    const until = this.#partitions.expiredUntil;
    const kept = withoutRefused(storable, refused, ({ t }) => (t <= until ? "expired" : undefined));
    const meters = await this.#meters.resolve(kept);
    const accepted = withoutRefused(kept, refused, ({ meterId, region }) =>
      meters.get(meterId)?.region === region ? undefined : "region-changed",
    );
    if (accepted.length > 0) {
      const numbered = accepted.map((point) => ({ meter: meters.get(point.meterId)!.number, point }));
      await writePoints(this.#pool, numbered, this.#clock.nowMs());
    }
    return refused;
  }

  /** Half of the limit goes to the finest resolution, so that a backlog of it does not starve the others. */
  async repair(limit: number): Promise<number> {
    return await this.#run(async () => {
      const delayS = this.#options.openBucketDelayS ?? OPEN_BUCKET_DELAY_S;
      let done = 0;
      for (const resolutionS of RESOLUTIONS_S) {
        const rest = limit - done;
        const share = resolutionS === RESOLUTIONS_S.at(-1) ? rest : Math.ceil(rest / 2);
        done += await repairBuckets(this.#pool, resolutionS, share, this.#clock.nowMs(), delayS);
      }
      return done;
    });
  }

  readings(meterId: string, range: SeriesRange, limit: number): Promise<readonly SeriesPoint[]> {
    return this.#run(() => readPoints(this.#pool, meterId, range, limit));
  }

  buckets(
    meterId: string,
    resolutionS: ResolutionS,
    range: SeriesRange,
    limit: number,
  ): Promise<readonly Bucket[]> {
    return this.#run(() => readBuckets(this.#pool, meterId, resolutionS, range, limit));
  }

  completeness(region: string, range: SeriesRange): Promise<readonly Completeness[]> {
    return this.#run(() => readCompleteness(this.#pool, region, range));
  }

  countReadings(region: string): Promise<bigint> {
    return this.#run(() => countIdentities(this.#pool, region));
  }

  /** Partitions are dropped when all of them has expired, so the last day, month or year may stay longer. */
  async expire(retention: SeriesRetention, nowS: number): Promise<void> {
    await this.#run(() => this.#partitions.expire(retention, nowS));
  }

  async close(): Promise<void> {
    if (!this.#pool.ended) await this.#pool.end();
  }

  async #run<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      throw seriesError(cause);
    }
  }
}
