import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { systemClock, type Clock } from "../../service/clock.ts";
import { openPool, type Pool } from "../../service/database.ts";
import { GridrootError } from "../../service/errors.ts";
import { migrate } from "../../service/migrate.ts";
import { showPool } from "../../service/pool-gauges.ts";
import { MeterNumbers } from "../meter-numbers.ts";
import { seriesError } from "../series-error.ts";
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
import { expireSeries } from "./expiry.ts";
import { InfluxAnswer, answerError } from "./influx-answer.ts";
import { InfluxBuckets, PART_OF } from "./influx-buckets.ts";
import { InfluxHttp } from "./influx-http.ts";
import type { Taking } from "./marks.ts";
import { countIdentities, readBuckets, readCompleteness, readPoints } from "./read-series.ts";
import { repairCompleteness } from "./repair-completeness.ts";
import { Lease, repairRollups, type RepairParts } from "./repair-rollups.ts";
import { SeriesCardinality } from "./series-cardinality.ts";
import { writePoints, type WriteParts } from "./write-points.ts";

/** InfluxDB 2 and what is kept in it. */
export interface InfluxConnectionOptions {
  /** Such as `http://127.0.0.1:8086`. */
  readonly url: string;
  /** Name of the organisation in which the buckets lie. */
  readonly org: string;
  /** May read, write and delete in the buckets; and create them and set their retention, where Gridroot is to do so. */
  readonly token: string;
  /** Begins the buckets' names: `{namespace}-raw`, `-15m`, `-1h`, `-1d`. */
  readonly namespace: string;
}

export interface InfluxTimeSeriesOptions extends InfluxConnectionOptions {
  /** PostgreSQL database that keeps the marks of touched buckets, in schema `series_marks`; a pooler may lie between. */
  readonly marksUrl: string;
  /** Connections to PostgreSQL. Default 4. */
  readonly maxMarksConnections?: number;
  /** Connections to InfluxDB. Default 8. */
  readonly maxConnections?: number;
  /** How long a request to InfluxDB or a statement may take, ms; writes are idempotent. Default 30,000. */
  readonly requestTimeoutMs?: number;
  /** Points that one request writes at the most. Default 5,000. */
  readonly maxLinesPerRequest?: number;
  /**
   * How long a bucket that is still open waits to be computed anew after a reading, seconds by resolution. Closed
   * buckets do not wait. Defaults: 30, 60, 300.
   */
  readonly openBucketDelayS?: Readonly<Record<ResolutionS, number>>;
  /** How long a repair has its marks to itself, ms; one that died holds them so long. Default 60,000. */
  readonly repairLeaseMs?: number;
  /** Series above which InfluxDB's index is an alarm. Default 4,000,000. */
  readonly maxSeries?: number;
}

export interface InfluxTimeSeriesDependencies {
  readonly log: Logger;
  /** Tells open buckets from closed ones. Default: the system's. */
  readonly clock?: Clock;
  /** For the gauges of the series' cardinality and of the marks' pool. */
  readonly metrics?: Registry;
}

const OPEN_BUCKET_DELAY_S: Readonly<Record<ResolutionS, number>> = { 900: 30, 3600: 60, 86400: 300 };
/** Completeness of an interval that is open, or has rollups that are out of date, is counted so long after a change. */
const COMPLETENESS_DELAY_MS = 60_000;
const DEFAULTS = {
  ...{ maxMarksConnections: 4, maxConnections: 8, requestTimeoutMs: 30_000, maxLinesPerRequest: 5_000 },
  ...{ openBucketDelayS: OPEN_BUCKET_DELAY_S, repairLeaseMs: 60_000, maxSeries: 4_000_000 },
};

/**
 * The time series in InfluxDB 2, with the marks of its rollups in PostgreSQL. Several processes may write, repair and
 * expire at the same time.
 *
 * Refuses for good: `name`, `t-out-of-range`, `out-of-range`, `expired`, `region-changed` (a meter belongs to the region
 * it was first written with), `seq-collision` (see `claimWideSeqs`), and what InfluxDB says it cannot store. Rejects
 * with `series-unavailable`, retryable, while InfluxDB or PostgreSQL is away, slow or overloaded; with `series-denied`,
 * `series-missing` or `series-failed`, which name InfluxDB's answer, where an operator must look, and then goes on.
 */
export class InfluxTimeSeries implements TimeSeries {
  readonly #options: InfluxTimeSeriesOptions & typeof DEFAULTS;
  readonly #clock: Clock;
  readonly #pool: Pool;
  readonly #influx: InfluxHttp;
  readonly #buckets: InfluxBuckets;
  readonly #writing: WriteParts;
  readonly #repairing: RepairParts;
  readonly #cardinality: SeriesCardinality;
  /** Number of this handle, and of its last repair. */
  #repairer = 0n;
  #repairs = 0n;

  private constructor(options: InfluxTimeSeriesOptions, dependencies: InfluxTimeSeriesDependencies) {
    const { log, clock = systemClock, metrics } = dependencies;
    this.#options = { ...DEFAULTS, ...options };
    this.#clock = clock;
    const { maxLinesPerRequest, requestTimeoutMs, maxMarksConnections } = this.#options;
    const url = new URL(options.marksUrl);
    url.searchParams.set("query_timeout", String(requestTimeoutMs));
    this.#pool = openPool(
      {
        connectionString: url.href,
        applicationName: "gridroot series marks",
        maxConnections: maxMarksConnections,
      },
      (error) => log.warn({ err: error }, "idle connection of the series' marks failed"),
    );
    if (metrics !== undefined) showPool("series-marks", this.#pool, metrics);
    this.#influx = new InfluxHttp(this.#options);
    this.#buckets = new InfluxBuckets(this.#influx, options.namespace);
    const shared = { influx: this.#influx, pool: this.#pool, maxLinesPerRequest };
    this.#writing = {
      ...shared,
      meters: new MeterNumbers(this.#pool, "series_marks.meter"),
      bucket: this.#buckets.nameOf("raw"),
      nowMs: () => this.#clock.nowMs(),
    };
    this.#repairing = { ...shared, buckets: this.#buckets };
    this.#cardinality = new SeriesCardinality(this.#options.maxSeries, {
      ...{ influx: this.#influx, buckets: this.#buckets, metrics },
      log: log.child({ part: "influxdb" }),
    });
  }

  /**
   * Brings the schema `series_marks` up to date and creates the buckets that are missing. Concurrent callers wait for
   * one another. Rejects with `series-namespace` where the schema belongs to another namespace's buckets.
   */
  static async open(
    options: InfluxTimeSeriesOptions,
    dependencies: InfluxTimeSeriesDependencies,
  ): Promise<InfluxTimeSeries> {
    const series = new InfluxTimeSeries(options, dependencies);
    try {
      await series.#run(async () => {
        await migrate(series.#pool, "series_marks", new URL("migrations/", import.meta.url));
        await series.#own();
        await series.#buckets.ensure();
      });
    } catch (cause) {
      await series.close();
      throw cause;
    }
    return series;
  }

  async #own(): Promise<void> {
    const { namespace } = this.#options;
    await this.#pool.query("insert into series_marks.owner (namespace) values ($1) on conflict do nothing", [
      namespace,
    ]);
    const result = await this.#pool.query<{ namespace: string; repairer: bigint }>(
      "select namespace, nextval('series_marks.repairer') as repairer from series_marks.owner",
    );
    const row = result.rows[0]!;
    if (row.namespace !== namespace)
      throw new GridrootError(
        "series-namespace",
        `the database keeps the marks of namespace ${row.namespace}, not of ${namespace}`,
      );
    this.#repairer = row.repairer;
  }

  write(points: readonly SeriesPoint[]): Promise<readonly RefusedPoint[]> {
    return this.#run(() => writePoints(this.#writing, points));
  }

  /** Half of the limit goes to the finest resolution, so that a backlog of it does not starve the others. */
  async repair(limit: number): Promise<number> {
    return await this.#run(async () => {
      await this.#cardinality.lookWhenDue();
      let done = 0;
      for (const resolutionS of RESOLUTIONS_S) {
        const share = Math.ceil((limit - done) / 2);
        const openDelayMs = this.#options.openBucketDelayS[resolutionS] * 1000;
        done += await this.#take(share, openDelayMs, (taking, lease) =>
          repairRollups(this.#repairing, resolutionS, taking, lease),
        );
      }
      done += await this.#take(limit - done, COMPLETENESS_DELAY_MS, (taking, lease) =>
        repairCompleteness(this.#repairing, taking, lease),
      );
      return done;
    });
  }

  async #take(
    limit: number,
    openDelayMs: number,
    repair: (taking: Taking, lease: Lease) => Promise<number>,
  ): Promise<number> {
    if (limit <= 0) return 0;
    const { repairLeaseMs: leaseMs, requestTimeoutMs } = this.#options;
    this.#repairs += 1n;
    const number = this.#repairer * 2n ** 32n + this.#repairs;
    const lease = new Lease(leaseMs, requestTimeoutMs);
    return await repair({ repair: number, leaseMs, nowMs: this.#clock.nowMs(), openDelayMs, limit }, lease);
  }

  readings(meterId: string, range: SeriesRange, limit: number): Promise<readonly SeriesPoint[]> {
    return this.#run(() => readPoints(this.#influx, this.#buckets.nameOf("raw"), meterId, range, limit));
  }

  buckets(
    meterId: string,
    resolutionS: ResolutionS,
    range: SeriesRange,
    limit: number,
  ): Promise<readonly Bucket[]> {
    const bucket = this.#buckets.nameOf(PART_OF[resolutionS]);
    return this.#run(() => readBuckets(this.#influx, bucket, meterId, resolutionS, range, limit));
  }

  completeness(region: string, range: SeriesRange): Promise<readonly Completeness[]> {
    return this.#run(() => readCompleteness(this.#influx, this.#buckets.nameOf("15m"), region, range));
  }

  countReadings(region: string): Promise<bigint> {
    return this.#run(() => countIdentities(this.#influx, this.#buckets.nameOf("raw"), region));
  }

  /** By whole days: the last one stays until all of it has expired. Sets the buckets' retention as well. */
  async expire(retention: SeriesRetention, nowS: number): Promise<void> {
    await this.#run(() => expireSeries(this.#pool, this.#buckets, retention, nowS));
  }

  async close(): Promise<void> {
    this.#influx.close();
    if (!this.#pool.ended) await this.#pool.end();
  }

  async #run<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      throw cause instanceof InfluxAnswer ? answerError(cause) : seriesError(cause);
    }
  }
}

/** Removes a namespace's buckets with all they hold, for a demonstration or a test. Idempotent. */
export async function deleteInfluxNamespace(options: InfluxConnectionOptions): Promise<void> {
  const influx = new InfluxHttp({ ...options, requestTimeoutMs: 60_000, maxConnections: 1 });
  try {
    await new InfluxBuckets(influx, options.namespace).drop();
  } catch (cause) {
    throw cause instanceof InfluxAnswer ? answerError(cause) : cause;
  } finally {
    influx.close();
  }
}
