import { Type } from "typebox";
import { type Meter, findMeter, listMeters } from "../ledger/meters.ts";
import type { Reads, RequestReads } from "../service/replica-reads.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { notFound } from "./problem.ts";
import { AddressParam, CLOSED, NameParam, SecondsSchema, WhSchema, answers, limitParam } from "./schemas.ts";
import type { TypedApp } from "./typed-app.ts";

const MeterSchema = Type.Object({
  meterId: Type.String(),
  region: Type.String(),
  utility: Type.String(),
  servicePoint: Type.String(),
  account: Type.String(),
  epoch: Type.Integer({ description: "The open register epoch" }),
  modulusWh: WhSchema,
  maxPowerW: Type.Integer(),
  commissionedAt: SecondsSchema,
  retiredAt: Type.Optional(SecondsSchema),
  flagged: Type.Optional(Type.String({ description: "Reason code of the first equivocation seen" })),
});

/** Meters of the registry. */
export function meterRoutes(app: TypedApp, { reads }: { readonly reads: Reads }): void {
  app.get(
    "/api/v1/meters",
    {
      schema: {
        summary: "Meters by id",
        tags: ["meters"],
        querystring: Type.Object(
          {
            region: Type.Optional(NameParam),
            account: Type.Optional(AddressParam),
            after: Type.Optional(NameParam),
            limit: limitParam(100, 1000),
          },
          CLOSED,
        ),
        response: answers(
          Type.Object({
            items: Type.Array(MeterSchema),
            next: Type.Optional(Type.String({ description: "`after` of the next page" })),
          }),
        ),
      },
    },
    async ({ query: { region, account, after, limit } }) => {
      const meters = await listMeters(reads.begin().db, {
        region,
        account: account?.toLowerCase() as Hex | undefined,
        afterMeterId: after,
        limit: limit + 1,
      });
      const items = meters.slice(0, limit);
      const last = meters.length > limit ? items.at(-1)?.meterId : undefined;
      return { items: items.map(meterJson), ...(last !== undefined && { next: last }) };
    },
  );

  app.get(
    "/api/v1/meters/:id",
    {
      schema: {
        summary: "One meter",
        tags: ["meters"],
        params: Type.Object({ id: NameParam }),
        response: answers(MeterSchema),
      },
    },
    async ({ params: { id } }) => meterJson(await requireMeter(reads.begin(), id)),
  );
}

/** The meter, or 404 `unknown-meter`. */
export async function requireMeter(reads: RequestReads, meterId: string): Promise<Meter> {
  const meter = await reads.find((db) => findMeter(db, meterId));
  if (meter === undefined) throw notFound("unknown-meter", `there is no meter ${meterId}`);
  return meter;
}

// The secret's hash stays in the registry.
function meterJson(meter: Meter) {
  return {
    meterId: meter.meterId,
    region: meter.region,
    utility: meter.utility,
    servicePoint: meter.servicePoint,
    account: meter.account,
    epoch: meter.epoch,
    modulusWh: meter.modulusWh.toString(),
    maxPowerW: meter.maxPowerW,
    commissionedAt: meter.commissionedAt,
    ...(meter.retiredAt !== undefined && { retiredAt: meter.retiredAt }),
    ...(meter.flagged !== undefined && { flagged: meter.flagged }),
  };
}
