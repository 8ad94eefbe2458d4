import { Type } from "typebox";
import { attestationsOf } from "../ledger/attestations.ts";
import { type Batch, findBatch, listBatches, readEvidence } from "../ledger/batches.ts";
import { settlementStatuses } from "../ledger/settlements.ts";
import type { Reads, RequestReads } from "../service/replica-reads.ts";
import {
  BatchDetailSchema,
  BatchWithStatusSchema,
  attestationJson,
  batchJson,
  statusJson,
} from "./batch-json.ts";
import type { ChainView } from "./chain-view.ts";
import { cutPage } from "./paging.ts";
import { Problem, notFound } from "./problem.ts";
import { CLOSED, IntervalParam, NameParam, U32Schema, answers, limitParam } from "./schemas.ts";
import type { TypedApp } from "./typed-app.ts";

export interface BatchDependencies {
  readonly reads: Reads;
  readonly chain: ChainView | undefined;
}

const BatchParams = Type.Object({ region: NameParam, interval: IntervalParam });
const RoundQuery = Type.Object({ round: Type.Optional(U32Schema) }, CLOSED);
/** Regions times rounds of one interval: more than a grid has. */
const MOST_OF_ONE_INTERVAL = 10_000;
const CHAIN_BOUND_MS = 2_000;

/** Sealed batches, their way onto the chain, and their evidence. */
export function batchRoutes(app: TypedApp, dependencies: BatchDependencies): void {
  listRoute(app, dependencies);
  detailRoute(app, dependencies);
  evidenceRoute(app, dependencies);
}

function listRoute(app: TypedApp, { reads }: BatchDependencies): void {
  app.get(
    "/api/v1/batches",
    {
      schema: {
        summary: "Batches, newest interval first",
        tags: ["batches"],
        querystring: Type.Object(
          {
            region: Type.Optional(NameParam),
            before: Type.Optional(IntervalParam),
            limit: limitParam(100, 500),
          },
          CLOSED,
        ),
        response: answers(
          Type.Object({
            items: Type.Array(BatchWithStatusSchema),
            next: Type.Optional(Type.Integer({ description: "`before` of the next page" })),
          }),
        ),
      },
    },
    async ({ query: { region, before, limit } }) => {
      const { db } = reads.begin();
      const { items, next } = await cutPage(
        await listBatches(db, { region, beforeInterval: before, limit: limit + 1 }),
        limit,
        (batch) => batch.interval,
        async (interval) => {
          const from = { region, beforeInterval: interval + 1, limit: MOST_OF_ONE_INTERVAL };
          return (await listBatches(db, from)).filter((batch) => batch.interval === interval);
        },
      );
      const statuses = await settlementStatuses(db, items);
      return {
        items: items.map((batch, i) => ({ ...batchJson(batch), settlement: statusJson(statuses[i]) })),
        ...(next !== undefined && { next }),
      };
    },
  );
}

function detailRoute(app: TypedApp, { reads, chain }: BatchDependencies): void {
  app.get(
    "/api/v1/batches/:region/:interval",
    {
      schema: {
        summary: "One batch with its attestations and its state on chain; by default of the newest round",
        tags: ["batches"],
        params: BatchParams,
        querystring: RoundQuery,
        response: answers(BatchDetailSchema),
      },
    },
    async ({ params, query }) => {
      const request = reads.begin();
      const batch = await requireBatch(request, { ...params, ...query });
      const [[status], attestations, accepted] = await Promise.all([
        settlementStatuses(request.db, [batch]),
        attestationsOf(request.db, batch),
        chain === undefined ? undefined : acceptance(chain, batch),
      ]);
      return {
        ...batchJson(batch),
        settlement: statusJson(status),
        attestations: attestations.map(attestationJson),
        ...(accepted !== undefined && { accepted }),
      };
    },
  );
}

function evidenceRoute(app: TypedApp, { reads }: BatchDependencies): void {
  app.get(
    "/api/v1/batches/:region/:interval/evidence",
    {
      schema: {
        summary: "The evidence file of a batch, decompressed; its keccak-256 is `dataHash`",
        tags: ["batches"],
        produces: ["application/octet-stream"],
        params: BatchParams,
        querystring: RoundQuery,
      },
    },
    async ({ params, query }, reply) => {
      const request = reads.begin();
      const batch = await requireBatch(request, { ...params, ...query });
      const file = await readEvidence(request.db, batch);
      if (file === undefined) throw new Problem(500, "evidence-missing", "the batch has no evidence file");
      return reply.type("application/octet-stream").header("etag", `"${batch.content.dataHash}"`).send(file);
    },
  );
}

/** The batch, or 404 `unknown-batch`. */
export async function requireBatch(
  reads: RequestReads,
  key: { readonly region: string; readonly interval: number; readonly round?: number | undefined },
): Promise<Batch> {
  const batch = await reads.find((db) => findBatch(db, key));
  if (batch === undefined) {
    throw notFound("unknown-batch", `region ${key.region} has no batch for interval ${key.interval}`);
  }
  return batch;
}

/** A chain that is away or slow leaves the ledger's answer as it is. */
async function acceptance(chain: ChainView, batch: Batch): Promise<boolean | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), CHAIN_BOUND_MS);
  });
  try {
    return await Promise.race([chain.isAccepted(batch.content).catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}
