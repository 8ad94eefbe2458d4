import { Type } from "typebox";
import { intervalEnd } from "../domain/metering/intervals.ts";
import {
  type ExpectedMeters,
  type RegionOverview,
  countExpectedMeters,
  listRegions,
} from "../ledger/region-overview.ts";
import type { Clock } from "../service/clock.ts";
import type { Reads } from "../service/replica-reads.ts";
import type { TimeSeries } from "../time-series/time-series.ts";
import { parseInstant } from "./instants.ts";
import { CLOSED, InstantParam, SecondsSchema, WhSchema, answers } from "./schemas.ts";
import type { TypedApp } from "./typed-app.ts";

/** The series counts completeness by quarter-hours. */
const QUARTER_S = 900;

const CompletenessSchema = Type.Object({
  end: SecondsSchema,
  expectedMeters: Type.Integer({ description: "Commissioned at its start, not retired before its end" }),
  meters: Type.Integer({ description: "With a reading in it" }),
  readings: Type.Integer(),
});

const RegionSchema = Type.Object({
  region: Type.String(),
  regionId: Type.Integer({ description: "The number on chain" }),
  utility: Type.String(),
  round: Type.Integer(),
  sealedUntil: Type.Optional(SecondsSchema),
  settledUntil: Type.Optional(SecondsSchema),
  meters: Type.Integer(),
  batches: Type.Integer(),
  accounts: Type.Integer(),
  cumulativeCreditWh: WhSchema,
  cumulativeDebitWh: WhSchema,
  heldWh: WhSchema,
  completeness: Type.Array(CompletenessSchema),
});

export interface RegionDependencies {
  readonly reads: Reads;
  readonly timeSeries: TimeSeries;
  readonly clock: Clock;
}

/** How far each region is, what it credited, and how complete its readings are. */
export function regionRoutes(app: TypedApp, { reads, timeSeries, clock }: RegionDependencies): void {
  app.get(
    "/api/v1/regions",
    {
      schema: {
        summary: "Regions: sealed and settled until, totals, completeness of the last quarter-hours",
        tags: ["regions"],
        querystring: Type.Object(
          {
            intervals: Type.Integer({ minimum: 0, maximum: 96, default: 4 }),
            to: Type.Optional(InstantParam),
          },
          CLOSED,
        ),
        response: answers(Type.Object({ items: Type.Array(RegionSchema) })),
      },
    },
    async ({ query: { intervals, to } }) => {
      const nowS = Math.floor(clock.nowMs() / 1000);
      const asked = to === undefined ? undefined : parseInstant(to, "to");
      const { db } = reads.begin();
      const regions = await listRegions(db);
      // Without `to`, a region is shown up to where it is sealed, or up to now before its first seal.
      const ends = regions.map((region) => lastEnds(asked ?? region.sealedUntil ?? nowS, intervals));
      const expected = await countExpectedMeters(db, [...new Set(ends.flat())], QUARTER_S);
      const items = await Promise.all(
        regions.map(async (region, i) => ({
          ...overviewJson(region),
          completeness: await completenessOf(timeSeries, region.region, ends[i]!, expected),
        })),
      );
      return { items };
    },
  );
}

/** Ends of the last `count` quarter-hours that are over at `untilS`, oldest first. */
function lastEnds(untilS: number, count: number): readonly number[] {
  const last = intervalEnd(untilS - QUARTER_S + 1, QUARTER_S);
  return Array.from({ length: count }, (_, i) => last - (count - 1 - i) * QUARTER_S).filter((end) => end > 0);
}

async function completenessOf(
  timeSeries: TimeSeries,
  region: string,
  ends: readonly number[],
  expected: readonly ExpectedMeters[],
) {
  const [first, last] = [ends[0], ends.at(-1)];
  if (first === undefined || last === undefined) return [];
  const found = await timeSeries.completeness(region, { from: first - 1, to: last });
  return ends.map((end) => {
    const seen = found.find((interval) => interval.end === end);
    const due = expected.find((candidate) => candidate.region === region && candidate.end === end);
    return {
      ...{ end, expectedMeters: due?.meters ?? 0 },
      ...{ meters: seen?.meters ?? 0, readings: seen?.readings ?? 0 },
    };
  });
}

function overviewJson({ sealedUntil, settledUntil, ...region }: RegionOverview) {
  return {
    ...region,
    ...(sealedUntil !== undefined && { sealedUntil }),
    ...(settledUntil !== undefined && { settledUntil }),
    cumulativeCreditWh: region.cumulativeCreditWh.toString(),
    cumulativeDebitWh: region.cumulativeDebitWh.toString(),
    heldWh: region.heldWh.toString(),
  };
}
