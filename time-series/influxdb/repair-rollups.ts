import { intervalEnd } from "../../domain/metering/intervals.ts";
import type { Pool } from "../../service/database.ts";
import { GridrootError } from "../../service/errors.ts";
import { RESOLUTIONS_S, type ResolutionS } from "../time-series.ts";
import { readExpired, type ExpiredUntil } from "./expiry.ts";
import { runFlux, secondsOf, type FluxParams, type RowsOf } from "./flux.ts";
import { PART_OF, type InfluxBuckets, type Part } from "./influx-buckets.ts";
import type { InfluxHttp } from "./influx-http.ts";
import { clustersOf, type MarkCluster } from "./mark-clusters.ts";
import { finishMarks, takeMarks, type TakenMark, type Taking } from "./marks.ts";
import { READING, ROLLUP, readingReader, rollupReader, wholeRows, type Rows } from "./read-series.ts";
import { RollupSum, rollupLine, rollupsEqual, type Rollup } from "./rollup.ts";
import { writeLines } from "./write-lines.ts";

export interface RepairParts {
  readonly influx: InfluxHttp;
  readonly buckets: InfluxBuckets;
  readonly pool: Pool;
  readonly maxLinesPerRequest: number;
}

/** Time left of a repair's lease; requests must end within it. */
export class Lease {
  readonly #until: number;
  readonly #requestTimeoutMs: number;

  /** Begins before the marks are taken, and ends before they may be taken by others. */
  constructor(leaseMs: number, requestTimeoutMs: number) {
    this.#until = performance.now() + leaseMs * 0.8;
    this.#requestTimeoutMs = requestTimeoutMs;
  }

  /** How long the next request may take, ms. Throws `series-unavailable` where the lease is over. */
  timeoutMs(): number {
    const leftMs = Math.floor(this.#until - performance.now());
    if (leftMs <= 0)
      throw new GridrootError("series-unavailable", "a repair took longer than its lease", {
        retryable: true,
      });
    return Math.min(leftMs, this.#requestTimeoutMs);
  }
}

/** Points or rollups of some meters over some time. */
const queryOf = (rows: Rows, isOfMeters: "==" | "=~") => `
from(bucket: params.bucket)
  |> range(start: params.start, stop: params.stop)
  |> filter(fn: (r) => r._measurement == "${rows.measurement}" and r.meter ${isOfMeters} params.meters)${wholeRows(rows)}`;

/** A bucket computed anew. */
interface Fresh {
  readonly mark: TakenMark;
  readonly rollup: Rollup;
  readonly version: number;
  readonly isChanged: boolean;
}

/**
 * Recomputes up to `limit` marked buckets of one resolution, and writes those that came out different; how many marks it
 * took.
 *
 * No stale bucket stays. Marks are taken before the points are read, and a write that comes in between marks again what
 * it touches. While one repair holds a mark no other computes its bucket: the lease outlasts every request of the one
 * that took it, also where that one has died. InfluxDB comes first, then one transaction ends the repair; after a crash
 * in between the bucket looks unchanged, so what is taken a second time marks its coarser bucket in any case.
 *
 * A bucket whose points have expired keeps what it has: cutoffs are recorded before anything is deleted, and looked at
 * after the points were read.
 */
export async function repairRollups(
  parts: RepairParts,
  resolutionS: ResolutionS,
  taking: Taking,
  lease: Lease,
): Promise<number> {
  const { pool } = parts;
  const taken = await takeMarks(pool, resolutionS, taking);
  if (taken.length === 0) return 0;
  const ending = { resolutionS, repair: taking.repair, taken, nowMs: taking.nowMs };
  const source = sourceOf(resolutionS);
  let fresh: readonly Fresh[];
  let expired: ExpiredUntil;
  try {
    const live = withoutExpired(taken, await readExpired(pool), source);
    fresh = await computeAnew(parts, resolutionS, source, live, lease);
    expired = await readExpired(pool);
  } catch (cause) {
    // Nothing was written: the next repair need not wait for the lease to end.
    await finishMarks(pool, { ...ending, done: [], changed: [] }).catch(() => {});
    throw cause;
  }
  const kept = new Set(withoutExpired(taken, expired, source));
  const changed = fresh.filter(({ mark, isChanged }) => isChanged && kept.has(mark));
  await writeRollups(parts, PART_OF[resolutionS], changed, lease);
  const followed = fresh.filter(({ mark, isChanged }) => (isChanged || mark.retaken) && kept.has(mark));
  await finishMarks(pool, { ...ending, done: taken, changed: followed.map(({ mark }) => mark) });
  return taken.length;
}

/** What a resolution is computed from, and how long one row of it spans. */
function sourceOf(resolutionS: ResolutionS): Part {
  const finerS = RESOLUTIONS_S[RESOLUTIONS_S.indexOf(resolutionS) - 1];
  return finerS === undefined ? "raw" : PART_OF[finerS];
}

/** Cutoffs are ends of days, which no bucket spans. */
function withoutExpired(
  marks: readonly TakenMark[],
  expired: ExpiredUntil,
  source: Part,
): readonly TakenMark[] {
  return marks.filter(({ end }) => end > expired[source]);
}

async function computeAnew(
  parts: RepairParts,
  resolutionS: ResolutionS,
  source: Part,
  marks: readonly TakenMark[],
  lease: Lease,
): Promise<readonly Fresh[]> {
  const fresh: Fresh[] = [];
  for (const cluster of clustersOf(marks, resolutionS)) {
    const [sums, stored] = await Promise.all([
      sumUp(parts, resolutionS, source, cluster, lease),
      readStored(parts, PART_OF[resolutionS], cluster, lease),
    ]);
    for (const mark of cluster.marks) {
      const rollup = sums.get(keyOf(mark.meterId, mark.epoch, mark.end))?.rollup;
      // Without a source nothing is known better than what is stored.
      if (rollup === undefined) continue;
      const old = stored.get(keyOf(mark.meterId, mark.epoch, mark.end));
      const isChanged = old === undefined || !rollupsEqual(old.rollup, rollup);
      fresh.push({ mark, rollup, version: (old?.version ?? 0) + 1, isChanged });
    }
  }
  return fresh;
}

/** Sums of the cluster's marked buckets, put together row by row: memory holds buckets, not points. */
async function sumUp(
  { influx, buckets }: RepairParts,
  resolutionS: ResolutionS,
  source: Part,
  cluster: MarkCluster,
  lease: Lease,
): Promise<ReadonlyMap<string, RollupSum>> {
  const sums = new Map(
    cluster.marks.map((mark) => [keyOf(mark.meterId, mark.epoch, mark.end), new RollupSum()] as const),
  );
  const rowsOf: RowsOf = (column) => {
    const [meter, epoch, time] = [column("meter"), column("epoch"), column("_time")];
    const sumOf = (row: readonly string[]) =>
      sums.get(keyOf(row[meter]!, row[epoch]!, intervalEnd(secondsOf(row[time]!), resolutionS)));
    if (source === "raw") {
      const readingOf = readingReader(column);
      return (row) => sumOf(row)?.addReading(readingOf(row));
    }
    const rollupOf = rollupReader(column);
    return (row) => sumOf(row)?.addRollup(rollupOf(row));
  };
  const start = cluster.firstEnd - resolutionS + 1;
  const bucket = buckets.nameOf(source);
  await readRows(influx, source === "raw" ? READING : ROLLUP, bucket, start, cluster, rowsOf, lease);
  return sums;
}

async function readStored(
  { influx, buckets }: RepairParts,
  part: Part,
  cluster: MarkCluster,
  lease: Lease,
): Promise<ReadonlyMap<string, { rollup: Rollup; version: number }>> {
  const stored = new Map<string, { rollup: Rollup; version: number }>();
  const rowsOf: RowsOf = (column) => {
    const [meter, epoch, time] = [column("meter"), column("epoch"), column("_time")];
    const [version, rollupOf] = [column("version"), rollupReader(column)];
    return (row) =>
      stored.set(keyOf(row[meter]!, row[epoch]!, secondsOf(row[time]!)), {
        rollup: rollupOf(row),
        version: Number(row[version]),
      });
  };
  await readRows(influx, ROLLUP, buckets.nameOf(part), cluster.firstEnd, cluster, rowsOf, lease);
  return stored;
}

/** Rows of the cluster's meters from the second `start` to its last end. */
async function readRows(
  influx: InfluxHttp,
  rows: Rows,
  bucket: string,
  start: number,
  { meterIds, lastEnd }: MarkCluster,
  rowsOf: RowsOf,
  lease: Lease,
): Promise<void> {
  const [only, ...others] = meterIds;
  const text = queryOf(rows, others.length === 0 ? "==" : "=~");
  const meters = others.length === 0 ? only! : { oneOf: meterIds };
  const params: FluxParams = { bucket, start, stop: lastEnd + 1, meters };
  await runFlux(influx, text, params, rowsOf, lease.timeoutMs());
}

async function writeRollups(
  { influx, buckets, maxLinesPerRequest }: RepairParts,
  part: Part,
  fresh: readonly Fresh[],
  lease: Lease,
): Promise<void> {
  const lines = fresh.map(({ mark, rollup, version }) => rollupLine(mark, rollup, version));
  const refused = await writeLines(influx, buckets.nameOf(part), lines, {
    maxLinesPerRequest,
    timeoutMs: () => lease.timeoutMs(),
  });
  if (refused.length > 0)
    throw new GridrootError("series-failed", `${refused.length} rollups are refused: ${refused[0]!.reason}`);
}

function keyOf(meterId: string, epoch: number | string, end: number): string {
  return `${meterId} ${epoch} ${end}`;
}
