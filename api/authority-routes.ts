import { Counter, type Registry } from "prom-client";
import { Type } from "typebox";
import { recoverAuthority, recoverRefusal } from "../domain/settlement/message.ts";
import type { Hex, SettlementDomain } from "../domain/settlement/settlement.ts";
import { pendingFor, recordAttestation } from "../ledger/attestations.ts";
import type { Batch } from "../ledger/batches.ts";
import type { Clock } from "../service/clock.ts";
import type { Pool } from "../service/database.ts";
import { primaryReads } from "../service/replica-reads.ts";
import { BatchSchema, batchJson } from "./batch-json.ts";
import { requireBatch } from "./batch-routes.ts";
import { AuthoritySetCache, type ChainView, requireChain } from "./chain-view.ts";
import { Problem } from "./problem.ts";
import {
  AddressParam,
  CLOSED,
  IntervalParam,
  NameParam,
  U32Schema,
  answers,
  hexSchema,
  limitParam,
} from "./schemas.ts";
import type { TypedApp } from "./typed-app.ts";

export interface AuthorityDependencies {
  /** The primary: an authority is told of a batch, and of its own verdict, as soon as it is in the ledger. */
  readonly pool: Pool;
  readonly chain: ChainView | undefined;
  readonly clock: Clock;
  readonly metrics: Registry;
}

/** A signature over the EIP-712 settlement, or a reason signed over `refusalMessage`. */
interface Verdict {
  readonly round: number;
  readonly authoritySetEpoch: number;
  readonly refusal?: string;
  readonly signature: string;
}

/** What authorities fetch and hand in. Nothing is stored that the named authority has not signed. */
export function authorityRoutes(app: TypedApp, dependencies: AuthorityDependencies): void {
  const sets = new AuthoritySetCache(dependencies);
  pendingRoute(app, dependencies.pool, sets);
  attestationRoute(app, dependencies, sets);
}

function pendingRoute(app: TypedApp, pool: Pool, sets: AuthoritySetCache): void {
  app.get(
    "/api/v1/authorities/:address/pending",
    {
      schema: {
        summary:
          "Batches that the authority has not attested in the epoch (by default the current one), oldest first",
        tags: ["authorities"],
        params: Type.Object({ address: AddressParam }),
        querystring: Type.Object(
          { limit: limitParam(100, 500), authoritySetEpoch: Type.Optional(U32Schema) },
          CLOSED,
        ),
        response: answers(Type.Array(BatchSchema)),
      },
    },
    async ({ params: { address }, query: { limit, authoritySetEpoch } }) => {
      const epoch = authoritySetEpoch ?? (await sets.current()).epoch;
      const batches = await pendingFor(pool, address.toLowerCase() as Hex, epoch, limit);
      return batches.map(batchJson);
    },
  );
}

function attestationRoute(
  app: TypedApp,
  { pool, chain, clock, metrics }: AuthorityDependencies,
  sets: AuthoritySetCache,
): void {
  const received = new Counter({
    name: "api_attestations_total",
    help: "Verdicts handed in by authorities: signature, refusal, repeated, rejected",
    labelNames: ["outcome"] as const,
    registers: [metrics],
  });
  app.put(
    "/api/v1/batches/:region/:interval/attestations/:authority",
    {
      schema: {
        summary:
          "An authority's signature over a batch, or its refusal; the first one stands, a signature replaces a refusal",
        tags: ["authorities"],
        params: Type.Object({ region: NameParam, interval: IntervalParam, authority: AddressParam }),
        body: Type.Object(
          {
            round: U32Schema,
            authoritySetEpoch: U32Schema,
            refusal: Type.Optional(
              Type.String({ pattern: "^[a-z][a-z0-9-]{0,63}$", description: "Reason code" }),
            ),
            signature: hexSchema(65),
          },
          CLOSED,
        ),
        response: answers(
          Type.Object({ recorded: Type.Boolean({ description: "False where it stood already" }) }),
        ),
      },
    },
    async ({ params, body }) => {
      try {
        const { domain } = requireChain(chain);
        const authority = params.authority.toLowerCase() as Hex;
        const batch = await requireBatch(primaryReads(pool).begin(), { ...params, round: body.round });
        if (batch.voidedMs !== undefined) throw new Problem(409, "batch-voided", "the batch was voided");
        await requireMember(sets, authority, body.authoritySetEpoch);
        requireOwnSignature(domain, batch, authority, body);
        const { regionId, round, interval } = batch;
        const recorded = await recordAttestation(pool, {
          ...{ regionId, round, interval, authority, authoritySetEpoch: body.authoritySetEpoch },
          signature: body.refusal === undefined ? (body.signature as Hex) : undefined,
          refusal: body.refusal,
          receivedMs: clock.nowMs(),
        });
        received.inc({
          outcome: !recorded ? "repeated" : body.refusal === undefined ? "signature" : "refusal",
        });
        return { recorded };
      } catch (error) {
        if (error instanceof Problem) received.inc({ outcome: "rejected" });
        throw error;
      }
    },
  );
}

async function requireMember(sets: AuthoritySetCache, authority: Hex, epoch: number): Promise<void> {
  const set = await sets.current(epoch);
  if (set.epoch !== epoch) {
    throw new Problem(409, "epoch-stale", `the authority set's epoch is ${set.epoch}`, "authoritySetEpoch");
  }
  if (!set.members.includes(authority)) {
    throw new Problem(
      403,
      "not-an-authority",
      "the address is not of the current authority set",
      "authority",
    );
  }
}

function requireOwnSignature(domain: SettlementDomain, batch: Batch, authority: Hex, verdict: Verdict): void {
  const { authoritySetEpoch, refusal } = verdict;
  const signature = verdict.signature as Hex;
  const signer =
    refusal === undefined
      ? recoverAuthority(domain, { ...batch.content, authoritySetEpoch }, signature)
      : recoverRefusal(batch.contentHash, refusal, signature);
  if (signer === authority) return;
  throw new Problem(422, "signature-invalid", "is not the authority's over this batch", "signature");
}
