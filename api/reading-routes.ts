import { Type } from "typebox";
import type { Clock } from "../service/clock.ts";
import type { Reads } from "../service/replica-reads.ts";
import type {
  Bucket,
  ResolutionS,
  SeriesPoint,
  SeriesRange,
  TimeSeries,
} from "../time-series/time-series.ts";
import { parseInstant } from "./instants.ts";
import { requireMeter } from "./meter-routes.ts";
import { type Page, cutPage } from "./paging.ts";
import { badInput } from "./problem.ts";
import { CLOSED, InstantParam, NameParam, SecondsSchema, WhSchema, answers, limitParam } from "./schemas.ts";
import type { TypedApp } from "./typed-app.ts";

const PointSchema = Type.Object({
  epoch: Type.Integer(),
  seq: Type.Integer(),
  t: SecondsSchema,
  importWh: WhSchema,
  exportWh: WhSchema,
  powerW: Type.Optional(Type.Number()),
  voltageDv: Type.Optional(Type.Number({ description: "Tenths of a volt" })),
  frequencyMhz: Type.Optional(Type.Number({ description: "Millihertz" })),
  status: Type.Integer({ description: "Bit mask" }),
});

const BucketSchema = Type.Object({
  epoch: Type.Integer(),
  end: SecondsSchema,
  count: Type.Integer(),
  firstT: SecondsSchema,
  lastT: SecondsSchema,
  firstImportWh: WhSchema,
  lastImportWh: WhSchema,
  firstExportWh: WhSchema,
  lastExportWh: WhSchema,
  minPowerW: Type.Optional(Type.Number()),
  meanPowerW: Type.Optional(Type.Number()),
  maxPowerW: Type.Optional(Type.Number()),
  version: Type.Integer({ description: "Grows when late data repairs the bucket" }),
});

const RESOLUTIONS = { "15m": 900, "1h": 3600, "1d": 86400 } as const satisfies Record<string, ResolutionS>;
const DAY_S = 86_400;
/** Readings of one instant, or epochs of one bucket: more than a meter ever has. */
const MOST_OF_ONE_INSTANT = 10_000;

export interface ReadingDependencies {
  readonly reads: Reads;
  readonly timeSeries: TimeSeries;
  readonly clock: Clock;
}

/** Readings of a meter. */
export function readingRoutes(app: TypedApp, { reads, timeSeries, clock }: ReadingDependencies): void {
  app.get(
    "/api/v1/meters/:id/readings",
    {
      schema: {
        summary: "Readings of a meter in (from, to], as received or by buckets; by default the last day",
        tags: ["meters"],
        params: Type.Object({ id: NameParam }),
        querystring: Type.Object(
          {
            from: Type.Optional(InstantParam),
            to: Type.Optional(InstantParam),
            resolution: Type.Union(
              (["raw", "15m", "1h", "1d"] as const).map((name) => Type.Literal(name)),
              { default: "raw" },
            ),
            limit: limitParam(1000, 5000),
          },
          CLOSED,
        ),
        response: answers(
          Type.Object({
            meterId: Type.String(),
            resolution: Type.String(),
            from: SecondsSchema,
            to: SecondsSchema,
            items: Type.Array(Type.Union([PointSchema, BucketSchema])),
            next: Type.Optional(Type.Integer({ description: "`from` of the next page" })),
          }),
        ),
      },
    },
    async ({ params: { id }, query: { from, to, resolution, limit } }) => {
      await requireMeter(reads.begin(), id);
      const range = rangeOf(from, to, clock);
      const page =
        resolution === "raw"
          ? await pageOfPoints(timeSeries, id, range, limit)
          : await pageOfBuckets(timeSeries, id, RESOLUTIONS[resolution], range, limit);
      const { items, next } = page;
      return { meterId: id, resolution, ...range, items, ...(next !== undefined && { next }) };
    },
  );
}

function rangeOf(from: string | undefined, to: string | undefined, clock: Clock): SeriesRange {
  const end = to === undefined ? Math.floor(clock.nowMs() / 1000) : parseInstant(to, "to");
  const start = from === undefined ? Math.max(0, end - DAY_S) : parseInstant(from, "from");
  if (start > end) throw badInput("from", "is after `to`");
  return { from: start, to: end };
}

async function pageOfPoints(
  timeSeries: TimeSeries,
  meterId: string,
  range: SeriesRange,
  limit: number,
): Promise<Page<ReturnType<typeof pointJson>, number>> {
  const { items, next } = await cutPage(
    await timeSeries.readings(meterId, range, limit + 1),
    limit,
    (point) => point.t,
    (t) => timeSeries.readings(meterId, { from: t - 1, to: t }, MOST_OF_ONE_INSTANT),
  );
  return { items: items.map(pointJson), next };
}

async function pageOfBuckets(
  timeSeries: TimeSeries,
  meterId: string,
  resolutionS: ResolutionS,
  range: SeriesRange,
  limit: number,
): Promise<Page<ReturnType<typeof bucketJson>, number>> {
  const { items, next } = await cutPage(
    await timeSeries.buckets(meterId, resolutionS, range, limit + 1),
    limit,
    (bucket) => bucket.end,
    (end) => timeSeries.buckets(meterId, resolutionS, { from: end - 1, to: end }, MOST_OF_ONE_INSTANT),
  );
  return { items: items.map(bucketJson), next };
}

function pointJson({ epoch, seq, t, importWh, exportWh, status, ...point }: SeriesPoint) {
  return {
    ...{ epoch, seq, t, importWh: importWh.toString(), exportWh: exportWh.toString() },
    ...(point.powerW !== undefined && { powerW: point.powerW }),
    ...(point.voltageDv !== undefined && { voltageDv: point.voltageDv }),
    ...(point.frequencyMhz !== undefined && { frequencyMhz: point.frequencyMhz }),
    status,
  };
}

function bucketJson({ meterId: _meterId, resolutionS: _resolutionS, ...bucket }: Bucket) {
  return {
    ...bucket,
    firstImportWh: bucket.firstImportWh.toString(),
    lastImportWh: bucket.lastImportWh.toString(),
    firstExportWh: bucket.firstExportWh.toString(),
    lastExportWh: bucket.lastExportWh.toString(),
  };
}
