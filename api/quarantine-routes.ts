import { Type } from "typebox";
import { regionTopic } from "../event-log/topics.ts";
import { type QuarantineKey, type QuarantinedReading, listQuarantine } from "../ledger/quarantine.ts";
import type { Reads } from "../service/replica-reads.ts";
import { CLOSED, NameParam, SecondsSchema, answers, limitParam } from "./schemas.ts";
import type { TypedApp } from "./typed-app.ts";

const QuarantinedSchema = Type.Object({
  topic: Type.String({ description: "Of the event log" }),
  partition: Type.Integer(),
  offset: Type.String({ description: "Decimal" }),
  index: Type.Integer({ description: "Position in the record's array" }),
  meterId: Type.String(),
  epoch: Type.Integer(),
  seq: Type.Integer(),
  t: SecondsSchema,
  reason: Type.String(),
});

/** `topic:partition:offset:index` of the last reading seen. */
const CURSOR = "^([A-Za-z0-9._-]{1,80}):([0-9]{1,9}):([0-9]{1,18}):([0-9]{1,9})$";

/** Readings that validation set aside. */
export function quarantineRoutes(app: TypedApp, { reads }: { readonly reads: Reads }): void {
  app.get(
    "/api/v1/quarantine",
    {
      schema: {
        summary: "Readings that validation set aside, in the order of the log",
        tags: ["quarantine"],
        querystring: Type.Object(
          {
            region: Type.Optional(NameParam),
            meter: Type.Optional(NameParam),
            after: Type.Optional(Type.String({ pattern: CURSOR })),
            limit: limitParam(100, 1000),
          },
          CLOSED,
        ),
        response: answers(
          Type.Object({
            items: Type.Array(QuarantinedSchema),
            next: Type.Optional(Type.String({ description: "`after` of the next page" })),
          }),
        ),
      },
    },
    async ({ query: { region, meter, after, limit } }) => {
      const found = await listQuarantine(reads.begin().db, {
        topic: region === undefined ? undefined : regionTopic(region),
        meterId: meter,
        after: after === undefined ? undefined : parseCursor(after),
        limit: limit + 1,
      });
      const items = found.slice(0, limit);
      const last = found.length > limit ? items.at(-1) : undefined;
      return { items: items.map(toJson), ...(last !== undefined && { next: cursorOf(last) }) };
    },
  );
}

function parseCursor(text: string): QuarantineKey {
  const [, topic = "", partition, offset = "0", index] = new RegExp(CURSOR).exec(text) ?? [];
  return { topic, partition: Number(partition), offset: BigInt(offset), index: Number(index) };
}

function cursorOf({ topic, partition, offset, index }: QuarantineKey): string {
  return `${topic}:${partition}:${offset}:${index}`;
}

function toJson(reading: QuarantinedReading) {
  return { ...reading, offset: reading.offset.toString() };
}
