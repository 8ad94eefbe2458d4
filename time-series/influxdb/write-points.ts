import { intervalEnd } from "../../domain/metering/intervals.ts";
import type { Pool } from "../../service/database.ts";
import type { MeterNumbers, NumberedMeter } from "../meter-numbers.ts";
import { refusalOf, withoutRefused } from "../refusals.ts";
import { RESOLUTIONS_S, type RefusedPoint, type SeriesPoint } from "../time-series.ts";
import { readExpired } from "./expiry.ts";
import type { InfluxHttp } from "./influx-http.ts";
import { INFLUX_LIMITS, placeOf, pointLine } from "./line-protocol.ts";
import { setMarks, type Mark } from "./marks.ts";
import { claimWideSeqs } from "./wide-seqs.ts";
import { writeLines } from "./write-lines.ts";

export interface WriteParts {
  readonly influx: InfluxHttp;
  readonly pool: Pool;
  readonly meters: MeterNumbers;
  /** InfluxDB's bucket of raw points. */
  readonly bucket: string;
  readonly maxLinesPerRequest: number;
  readonly nowMs: () => number;
}

/**
 * Writes points and then marks the buckets they touch. Who dies in between leaves points without marks, and was not
 * acknowledged: the log delivers them again, which writes the same points and sets the marks.
 *
 * What was written while its day expired is refused afterwards; a mark is not set for it.
 */
export async function writePoints(
  parts: WriteParts,
  points: readonly SeriesPoint[],
): Promise<RefusedPoint[]> {
  const refused: RefusedPoint[] = [];
  const storable = withoutRefused(points, refused, (point) => refusalOf(point, INFLUX_LIMITS));
  if (storable.length === 0) return refused;
  const expiredUntil = (await readExpired(parts.pool)).raw;
  const kept = withoutRefused(storable, refused, expiredBy(expiredUntil));
  if (kept.length === 0) return refused;
  const meters = await parts.meters.resolve(kept);
  const ofRegion = withoutRefused(kept, refused, ({ meterId, region }) =>
    meters.get(meterId)?.region === region ? undefined : "region-changed",
  );
  const unplaced = await claimWideSeqs(parts.pool, ofRegion, (meterId) => meters.get(meterId)!.number);
  const placed = withoutRefused(ofRegion, refused, (point) =>
    unplaced.has(point) ? "seq-collision" : undefined,
  );
  const written = await sendPoints(parts, placed, refused);
  if (written.length === 0) return refused;
  const until = await setMarks(parts.pool, marksOf(written, meters), parts.nowMs());
  withoutRefused(written, refused, expiredBy(until));
  return refused;
}

function expiredBy(until: number): (point: SeriesPoint) => string | undefined {
  return ({ t }) => (t <= until ? "expired" : undefined);
}

/** Sends each place's last point; the points that are stored. */
async function sendPoints(
  { influx, bucket, maxLinesPerRequest }: WriteParts,
  points: readonly SeriesPoint[],
  refused: RefusedPoint[],
): Promise<readonly SeriesPoint[]> {
  const lastAt = new Map<string, { point: SeriesPoint; line: string }>();
  for (const point of points) {
    const place = placeOf(point);
    lastAt.set(`${place.series} ${place.time}`, { point, line: pointLine(point, place) });
  }
  const sent = [...lastAt.values()];
  const lines = sent.map(({ line }) => line);
  const reasons = new Map(
    (await writeLines(influx, bucket, lines, { maxLinesPerRequest })).map(
      ({ index, reason }) => [sent[index]!.point, reason] as const,
    ),
  );
  if (reasons.size === 0) return sent.map(({ point }) => point);
  return withoutRefused(
    sent.map(({ point }) => point),
    refused,
    (point) => reasons.get(point),
  );
}

/** The buckets of 900 s that the points lie in, each once. */
function marksOf(points: readonly SeriesPoint[], meters: ReadonlyMap<string, NumberedMeter>): Mark[] {
  const marks = new Map<string, Mark>();
  for (const { meterId, epoch, t } of points) {
    const meter = meters.get(meterId)!.number;
    const end = intervalEnd(t, RESOLUTIONS_S[0]);
    const key = `${meter} ${epoch} ${end}`;
    if (!marks.has(key)) marks.set(key, { meter, epoch, end });
  }
  return [...marks.values()];
}
