import { wh } from "../../domain/metering/units.ts";
import type { Bucket, Completeness, ResolutionS, SeriesPoint, SeriesRange } from "../time-series.ts";
import { runFlux, secondsOf } from "./flux.ts";
import type { InfluxHttp } from "./influx-http.ts";
import { INFLUX_LIMITS, PRESENT } from "./line-protocol.ts";
import { ROLLUP_FIELDS, type RolledReading, type Rollup } from "./rollup.ts";

/** Reads that go through all points of a region. */
const AUDIT_TIMEOUT_MS = 300_000;

/** Readings of one second may have the same nanosecond and another lap, see `placeOf`. */
export const READING = { measurement: "reading", key: ["region", "meter", "epoch", "lap", "_time"] } as const;
export const ROLLUP = { measurement: "rollup", key: ["region", "meter", "epoch", "_time"] } as const;
/** What a query reads: a measurement, and the columns that tell its rows apart. */
export type Rows = typeof READING | typeof ROLLUP;

/**
 * Puts fields together to whole rows. All series in one table first: with a table for each of them the same takes twice
 * as long.
 */
export function wholeRows({ key }: Rows): string {
  return `
  |> group(columns: ["_measurement", "_start", "_stop"])
  |> pivot(rowKey: ${JSON.stringify(key)}, columnKey: ["_field"], valueColumn: "_value")
  |> drop(columns: ["_start", "_stop", "_measurement"])`;
}

/** Points or rollups of a meter, by time, epoch and seq. Epochs are text in InfluxDB. */
function ofMeter(rows: Rows, order: readonly string[]): string {
  return `
from(bucket: params.bucket)
  |> range(start: params.start, stop: params.stop)
  |> filter(fn: (r) => r._measurement == "${rows.measurement}" and r.meter == params.meter)${wholeRows(rows)}
  |> map(fn: (r) => ({r with second: int(v: r._time) / 1000000000, order: int(v: r.epoch)}))
  |> sort(columns: ${JSON.stringify(order)})
  |> limit(n: params.limit)`;
}

const READINGS = ofMeter(READING, ["second", "order", "seq"]);
const ROLLUPS = ofMeter(ROLLUP, ["second", "order"]);

const COMPLETENESS = `
from(bucket: params.bucket)
  |> range(start: params.start, stop: params.stop)
  |> filter(fn: (r) => r._measurement == "completeness" and r.region == params.region)
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")`;

/** Grouped by meter and epoch, so that what is held at a time are the seqs of one. */
const IDENTITIES = `
from(bucket: params.bucket)
  |> range(start: params.start, stop: params.stop)
  |> filter(fn: (r) => r._measurement == "reading" and r._field == "seq" and r.region == params.region)
  |> group(columns: ["meter", "epoch"])
  |> distinct()
  |> count()
  |> group()
  |> sum()`;

/** Series are what InfluxDB's index holds: combinations of measurement and tags. */
const CARDINALITY = `
import "influxdata/influxdb"
influxdb.cardinality(bucket: params.bucket, start: 1970-01-01T00:00:00Z, stop: 2262-01-01T00:00:00Z)`;

/** Raw points of a meter in (from, to], by (t, epoch, seq). */
export async function readPoints(
  influx: InfluxHttp,
  bucket: string,
  meterId: string,
  range: SeriesRange,
  limit: number,
): Promise<readonly SeriesPoint[]> {
  const bounds = boundsOf(range);
  if (bounds === undefined || limit <= 0) return [];
  const points: SeriesPoint[] = [];
  await runFlux(influx, READINGS, { bucket, ...bounds, meter: meterId, limit }, (column) => {
    const [time, region, epoch] = [column("_time"), column("region"), column("epoch")];
    const [seq, status, present] = [column("seq"), column("status"), column("present")];
    const [importWh, exportWh] = [column("import_wh"), column("export_wh")];
    const [powerW, voltageDv, frequencyMhz] = [
      ...[column("power_w"), column("voltage_dv"), column("frequency_mhz")],
    ];
    return (row) => {
      const has = Number(row[present]);
      points.push({
        region: row[region]!,
        meterId,
        epoch: Number(row[epoch]),
        seq: Number(row[seq]),
        t: secondsOf(row[time]!),
        importWh: wh(BigInt(row[importWh]!)),
        exportWh: wh(BigInt(row[exportWh]!)),
        ...((has & PRESENT.powerW) === 0 ? {} : { powerW: Number(row[powerW!]) }),
        ...((has & PRESENT.voltageDv) === 0 ? {} : { voltageDv: Number(row[voltageDv!]) }),
        ...((has & PRESENT.frequencyMhz) === 0 ? {} : { frequencyMhz: Number(row[frequencyMhz!]) }),
        status: Number(row[status]),
      });
    };
  });
  return points;
}

/** Rollups of a meter whose end lies in (from, to], by (end, epoch). */
export async function readBuckets(
  influx: InfluxHttp,
  bucket: string,
  meterId: string,
  resolutionS: ResolutionS,
  range: SeriesRange,
  limit: number,
): Promise<readonly Bucket[]> {
  const bounds = boundsOf(range);
  if (bounds === undefined || limit <= 0) return [];
  const found: Bucket[] = [];
  await runFlux(influx, ROLLUPS, { bucket, ...bounds, meter: meterId, limit }, (column) => {
    const [time, epoch, version] = [column("_time"), column("epoch"), column("version")];
    const rollupOf = rollupReader(column);
    return (row) => {
      const rollup = rollupOf(row);
      found.push({
        ...{ meterId, epoch: Number(row[epoch]), end: secondsOf(row[time]!), resolutionS },
        ...bucketOf(rollup),
        version: Number(row[version]),
      });
    };
  });
  return found;
}

function bucketOf(rollup: Rollup): Omit<Bucket, "meterId" | "epoch" | "end" | "resolutionS" | "version"> {
  const { readings, firstT, lastT, powerReadings, powerSumW, minPowerW, maxPowerW } = rollup;
  return {
    ...{ count: readings, firstT, lastT },
    firstImportWh: wh(rollup.firstImportWh),
    lastImportWh: wh(rollup.lastImportWh),
    firstExportWh: wh(rollup.firstExportWh),
    lastExportWh: wh(rollup.lastExportWh),
    ...(powerReadings === 0 ? {} : { minPowerW, meanPowerW: powerSumW / powerReadings, maxPowerW }),
  };
}

/** Reads a point as far as rollups are concerned. */
export function readingReader(column: (label: string) => number): (row: readonly string[]) => RolledReading {
  const [time, seq, present, powerW] = [column("_time"), column("seq"), column("present"), column("power_w")];
  const [importWh, exportWh] = [column("import_wh"), column("export_wh")];
  return (row) => ({
    t: secondsOf(row[time]!),
    seq: Number(row[seq]),
    importWh: Number(row[importWh]),
    exportWh: Number(row[exportWh]),
    powerW: (Number(row[present]) & PRESENT.powerW) === 0 ? undefined : Number(row[powerW]),
  });
}

/** Reads a stored rollup. */
export function rollupReader(column: (label: string) => number): (row: readonly string[]) => Rollup {
  const places = Object.entries(ROLLUP_FIELDS).map(([key, field]) => [key, column(field)] as const);
  return (row) =>
    Object.fromEntries(places.map(([key, place]) => [key, Number(row[place])])) as unknown as Rollup;
}

/** The completeness of a region's intervals that end in (from, to], by end. */
export async function readCompleteness(
  influx: InfluxHttp,
  bucket: string,
  region: string,
  range: SeriesRange,
): Promise<readonly Completeness[]> {
  const bounds = boundsOf(range);
  if (bounds === undefined) return [];
  const found: Completeness[] = [];
  await runFlux(influx, COMPLETENESS, { bucket, ...bounds, region }, (column) => {
    const [time, meters, readings] = [column("_time"), column("meters"), column("readings")];
    return (row) =>
      found.push({
        ...{ region, end: secondsOf(row[time]!) },
        ...{ meters: Number(row[meters]), readings: Number(row[readings]) },
      });
  });
  return found;
}

/** Distinct (meter, epoch, seq) of a region, counted by InfluxDB. Reads every point of the region: for audits. */
export async function countIdentities(influx: InfluxHttp, bucket: string, region: string): Promise<bigint> {
  const bounds = boundsOf({ from: 0, to: INFLUX_LIMITS.maxT })!;
  let count = 0n;
  const rowsOf = (column: (label: string) => number) => {
    const value = column("_value");
    return (row: readonly string[]) => void (count = BigInt(row[value]!));
  };
  await runFlux(influx, IDENTITIES, { bucket, ...bounds, region }, rowsOf, AUDIT_TIMEOUT_MS);
  return count;
}

/** Series that a bucket's index holds. */
export async function countSeries(influx: InfluxHttp, bucket: string): Promise<number> {
  let count = 0;
  await runFlux(influx, CARDINALITY, { bucket }, (column) => {
    const value = column("_value");
    return (row) => void (count = Number(row[value]));
  });
  return count;
}

/** (from, to] as InfluxDB's [start, stop) in whole seconds; undefined where it is empty. */
function boundsOf({ from, to }: SeriesRange): { start: number; stop: number } | undefined {
  const start = Math.max(1, Math.floor(from) + 1);
  const stop = Math.min(INFLUX_LIMITS.maxT, Math.floor(to)) + 1;
  return start < stop ? { start, stop } : undefined;
}
