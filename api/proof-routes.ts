import { Type } from "typebox";
import { type Evidence, decodeEvidence } from "../domain/settlement/evidence.ts";
import type { Keccak } from "../domain/settlement/hasher.ts";
import { type MerkleSumTree, buildTree } from "../domain/settlement/merkle-sum-tree.ts";
import { type BundleSignature, bundleToJson, createBundle } from "../domain/settlement/proof-bundle.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { attestationsOf } from "../ledger/attestations.ts";
import { type Batch, findBatchByDataHash, readEvidence } from "../ledger/batches.ts";
import { regionsOfAccount } from "../ledger/region-overview.ts";
import { newestProvableBatch } from "../ledger/settlements.ts";
import type { Queryable } from "../service/database.ts";
import { invariant } from "../service/errors.ts";
import type { Reads, RequestReads } from "../service/replica-reads.ts";
import { requireBatch } from "./batch-routes.ts";
import { type ChainView, requireChain } from "./chain-view.ts";
import { Problem, badInput, notFound } from "./problem.ts";
import {
  AddressParam,
  CLOSED,
  IntervalParam,
  NameParam,
  SecondsSchema,
  U32Schema,
  WhSchema,
  answers,
  hexSchema,
} from "./schemas.ts";
import type { TypedApp } from "./typed-app.ts";

const AMOUNTS = { creditWh: WhSchema, debitWh: WhSchema };
const RECORD = {
  root: hexSchema(32),
  interval: SecondsSchema,
  cumulativeCreditWh: WhSchema,
  cumulativeDebitWh: WhSchema,
  leafCount: U32Schema,
};

const BundleSchema = Type.Object(
  {
    version: Type.Integer(),
    chainId: Type.Integer(),
    contract: hexSchema(20),
    region: Type.Object({ number: U32Schema, name: Type.String() }),
    settlement: Type.Object({
      ...RECORD,
      ...{ round: U32Schema, prevInterval: SecondsSchema, prevRoot: hexSchema(32) },
      ...{ intervalCreditWh: WhSchema, dataHash: hexSchema(32) },
    }),
    record: Type.Object({ ...RECORD, contentHash: hexSchema(32) }),
    leaf: Type.Object({ index: U32Schema, account: hexSchema(20), ...AMOUNTS }),
    heldWh: WhSchema,
    siblings: Type.Array(Type.Object({ hash: hexSchema(32), sumWh: WhSchema })),
    points: Type.Array(
      Type.Object({
        ...{ servicePoint: Type.String(), creditWh: WhSchema, meterId: Type.String() },
        ...{ epoch: U32Schema, seq: Type.Integer(), t: SecondsSchema, previousCreditWh: WhSchema },
      }),
    ),
    previous: Type.Optional(Type.Object({ interval: SecondsSchema, ...AMOUNTS, heldWh: WhSchema })),
    signatures: Type.Array(
      Type.Object({ authority: hexSchema(20), authoritySetEpoch: U32Schema, signature: hexSchema(65) }),
    ),
  },
  { description: "Proof bundle; `gridroot verify` checks it" },
);

/** What bundles of one batch are made from. */
interface BatchParts {
  readonly evidence: Evidence;
  readonly previous: Evidence | undefined;
  readonly tree: MerkleSumTree;
}

const CACHED_BATCHES = 16;

export interface ProofDependencies {
  readonly reads: Reads;
  readonly chain: ChainView | undefined;
  readonly hasher: Keccak;
}

/** Proof bundles of accounts. */
export function proofRoutes(app: TypedApp, { reads, chain, hasher }: ProofDependencies): void {
  // A batch never changes, so its decoded evidence and tree are kept for the next account that asks.
  const cache = new Map<Hex, Promise<BatchParts>>();

  app.get(
    "/api/v1/accounts/:address/proof",
    {
      schema: {
        summary:
          "Proof bundle of an account; by default from the newest batch on chain, or else the newest sealed",
        tags: ["accounts"],
        params: Type.Object({ address: AddressParam }),
        querystring: Type.Object(
          { interval: Type.Optional(IntervalParam), region: Type.Optional(NameParam) },
          CLOSED,
        ),
        response: answers(BundleSchema),
      },
    },
    async ({ params, query }) => {
      const { domain } = requireChain(chain);
      const account = params.address.toLowerCase() as Hex;
      const request = reads.begin();
      const region = query.region ?? (await onlyRegionOf(request, account));
      const batch = await chooseBatch(request, region, query.interval);
      const { evidence, previous, tree } = await remember(cache, batch.contentHash, () =>
        readParts(request.db, hasher, batch),
      );
      const signatures = await signaturesOf(request.db, batch);
      const bundle = createBundle(
        { domain, regionName: region, settlement: batch.content, evidence, previous, tree, signatures },
        account,
      );
      if (bundle === undefined) {
        throw notFound("account-not-in-batch", `interval ${batch.interval} of ${region} has no such account`);
      }
      return bundleToJson(bundle);
    },
  );
}

async function onlyRegionOf(reads: RequestReads, account: Hex): Promise<string> {
  const regions = await reads.find(async (db) => {
    const found = await regionsOfAccount(db, account);
    return found.length === 0 ? undefined : found;
  });
  const [first, ...others] = regions ?? [];
  if (first === undefined) throw notFound("unknown-account", "no service point credits this account");
  if (others.length > 0) throw badInput("region", `is needed: one of ${[first, ...others].join(", ")}`);
  return first;
}

async function chooseBatch(
  reads: RequestReads,
  region: string,
  interval: number | undefined,
): Promise<Batch> {
  const batch =
    interval === undefined
      ? await reads.find((db) => newestProvableBatch(db, region))
      : await requireBatch(reads, { region, interval });
  if (batch === undefined) throw notFound("unknown-batch", `region ${region} has no batch`);
  if (batch.voidedMs !== undefined) throw new Problem(409, "batch-voided", "the interval's batch was voided");
  return batch;
}

async function readParts(db: Queryable, hasher: Keccak, batch: Batch): Promise<BatchParts> {
  const evidence = await readDecoded(db, batch);
  const previous =
    evidence.prevInterval === 0
      ? undefined
      : await findBatchByDataHash(db, {
          regionId: batch.regionId,
          interval: evidence.prevInterval,
          dataHash: evidence.prevDataHash,
        });
  invariant(previous !== undefined || evidence.prevInterval === 0, "a batch's predecessor is in the ledger");
  return {
    evidence,
    previous: previous && (await readDecoded(db, previous)),
    tree: buildTree(hasher, evidence.accounts),
  };
}

async function readDecoded(db: Queryable, batch: Batch): Promise<Evidence> {
  const file = await readEvidence(db, batch);
  invariant(file !== undefined, "a batch has its evidence file");
  return decodeEvidence(file);
}

async function signaturesOf(db: Queryable, batch: Batch): Promise<readonly BundleSignature[]> {
  const attestations = await attestationsOf(db, batch);
  return attestations.flatMap(({ authority, authoritySetEpoch, signature }) =>
    signature === undefined ? [] : [{ authority, authoritySetEpoch, signature }],
  );
}

/** The least recently used goes first; a failed reading is not remembered. */
async function remember(
  cache: Map<Hex, Promise<BatchParts>>,
  key: Hex,
  read: () => Promise<BatchParts>,
): Promise<BatchParts> {
  const parts = cache.get(key) ?? read();
  cache.delete(key);
  cache.set(key, parts);
  const [oldest] = cache.keys();
  if (cache.size > CACHED_BATCHES && oldest !== undefined) cache.delete(oldest);
  try {
    return await parts;
  } catch (error) {
    if (cache.get(key) === parts) cache.delete(key);
    throw error;
  }
}
