import { wh } from "../../domain/metering/units.ts";
import type { Queryable } from "../../service/database.ts";
import type { Bucket, Completeness, ResolutionS, SeriesPoint, SeriesRange } from "../time-series.ts";
import { bucketTable } from "./partitions.ts";

interface PointRow {
  region: string;
  epoch: number;
  t: bigint;
  seq: bigint;
  import_wh: bigint;
  export_wh: bigint;
  power_w: number | null;
  voltage_dv: number | null;
  frequency_mhz: number | null;
  status: number;
}

/** Raw points of a meter in (from, to], by (t, epoch, seq), which is the order of the primary key. */
export async function readPoints(
  db: Queryable,
  meterId: string,
  range: SeriesRange,
  limit: number,
): Promise<readonly SeriesPoint[]> {
  const result = await db.query<PointRow>(
    `select m.region, p.* from series.point p join series.meter m on m.id = p.meter
      where p.meter = (select id from series.meter where meter_id = $1) and p.t > $2 and p.t <= $3
      order by p.t, p.epoch, p.seq limit $4`,
    [meterId, range.from, range.to, limit],
  );
  return result.rows.map((row) => ({
    region: row.region,
    meterId,
    epoch: row.epoch,
    seq: Number(row.seq),
    t: Number(row.t),
    importWh: wh(row.import_wh),
    exportWh: wh(row.export_wh),
    ...(row.power_w === null ? {} : { powerW: row.power_w }),
    ...(row.voltage_dv === null ? {} : { voltageDv: row.voltage_dv }),
    ...(row.frequency_mhz === null ? {} : { frequencyMhz: row.frequency_mhz }),
    status: row.status,
  }));
}

interface BucketRow {
  epoch: number;
  bucket_end: bigint;
  readings: bigint;
  first_t: bigint;
  last_t: bigint;
  first_import_wh: bigint;
  last_import_wh: bigint;
  first_export_wh: bigint;
  last_export_wh: bigint;
  min_power_w: number | null;
  max_power_w: number | null;
  mean_power_w: number | null;
  version: bigint;
}

/** Buckets of a meter whose end lies in (from, to], by (end, epoch). */
export async function readBuckets(
  db: Queryable,
  meterId: string,
  resolutionS: ResolutionS,
  range: SeriesRange,
  limit: number,
): Promise<readonly Bucket[]> {
  const result = await db.query<BucketRow>(
    `select b.*, power_sum_w::float8 / power_readings as mean_power_w from ${bucketTable(resolutionS)} b
      where b.meter = (select id from series.meter where meter_id = $1) and b.bucket_end > $2 and b.bucket_end <= $3
      order by b.bucket_end, b.epoch limit $4`,
    [meterId, range.from, range.to, limit],
  );
  return result.rows.map((row) => ({
    meterId,
    epoch: row.epoch,
    end: Number(row.bucket_end),
    resolutionS,
    count: Number(row.readings),
    firstT: Number(row.first_t),
    lastT: Number(row.last_t),
    firstImportWh: wh(row.first_import_wh),
    lastImportWh: wh(row.last_import_wh),
    firstExportWh: wh(row.first_export_wh),
    lastExportWh: wh(row.last_export_wh),
    ...(row.min_power_w === null ? {} : { minPowerW: row.min_power_w }),
    ...(row.mean_power_w === null ? {} : { meanPowerW: row.mean_power_w }),
    ...(row.max_power_w === null ? {} : { maxPowerW: row.max_power_w }),
    version: Number(row.version),
  }));
}

/** The completeness counters of a region whose interval ends in (from, to], by end. */
export async function readCompleteness(
  db: Queryable,
  region: string,
  range: SeriesRange,
): Promise<readonly Completeness[]> {
  const result = await db.query<{ bucket_end: bigint; meters: bigint; readings: bigint }>(
    `select bucket_end, meters, readings from series.completeness
      where region = $1 and bucket_end > $2 and bucket_end <= $3 and readings > 0 order by bucket_end`,
    [region, range.from, range.to],
  );
  return result.rows.map((row) => ({
    region,
    end: Number(row.bucket_end),
    meters: Number(row.meters),
    readings: Number(row.readings),
  }));
}

/** Distinct (meter, epoch, seq) of a region. Reads every raw point of the region: a figure for audits. */
export async function countIdentities(db: Queryable, region: string): Promise<bigint> {
  const result = await db.query<{ n: bigint }>(
    `select count(*) as n from (
       select distinct p.meter, p.epoch, p.seq from series.point p join series.meter m on m.id = p.meter where m.region = $1
     ) as identity`,
    [region],
  );
  return result.rows[0]!.n;
}
