import { Type } from "typebox";
import type { Attestation } from "../ledger/attestations.ts";
import type { Batch } from "../ledger/batches.ts";
import type { SettlementStatus } from "../ledger/settlements.ts";
import { MillisecondsSchema, SecondsSchema, WhSchema, hexSchema } from "./schemas.ts";

/** A sealed batch: the fields of its EIP-712 message save the epoch, and what the ledger adds. */
const BATCH_FIELDS = {
  region: Type.String(),
  regionId: Type.Integer({ description: "`region` of the signed message" }),
  round: Type.Integer(),
  interval: SecondsSchema,
  prevInterval: SecondsSchema,
  prevRoot: hexSchema(32),
  root: hexSchema(32),
  intervalCreditWh: WhSchema,
  cumulativeCreditWh: WhSchema,
  cumulativeDebitWh: WhSchema,
  leafCount: Type.Integer(),
  dataHash: hexSchema(32),
  contentHash: hexSchema(32),
  heldWh: WhSchema,
  registryVersion: Type.String({ description: "Decimal" }),
  sealedMs: MillisecondsSchema,
  voidedMs: Type.Optional(MillisecondsSchema),
};

const StatusSchema = Type.Object({
  state: Type.String({
    description: "sealed, or the relayer's: signed, broadcast, mined, final, reverted, settled-externally",
  }),
  reason: Type.Optional(Type.String({ description: "Why the contract refused it" })),
  changedMs: Type.Optional(MillisecondsSchema),
  transactionHash: Type.Optional(hexSchema(32)),
  blockNumber: Type.Optional(Type.Integer()),
});

const AttestationSchema = Type.Object({
  authority: hexSchema(20),
  authoritySetEpoch: Type.Integer(),
  signature: Type.Optional(hexSchema(65)),
  refusal: Type.Optional(Type.String()),
  receivedMs: MillisecondsSchema,
});

/** A batch as authorities get it. */
export const BatchSchema = Type.Object(BATCH_FIELDS);

/** A batch in a listing. */
export const BatchWithStatusSchema = Type.Object({ ...BATCH_FIELDS, settlement: StatusSchema });

/** One batch with all that is known of it. */
export const BatchDetailSchema = Type.Object({
  ...BATCH_FIELDS,
  settlement: StatusSchema,
  attestations: Type.Array(AttestationSchema),
  accepted: Type.Optional(
    Type.Boolean({
      description: "Whether the contract holds its record now; absent where the chain is away",
    }),
  ),
});

/** The fields of a batch. */
export function batchJson(batch: Batch) {
  const { content } = batch;
  return {
    region: batch.region,
    regionId: batch.regionId,
    round: content.round,
    interval: content.interval,
    prevInterval: content.prevInterval,
    prevRoot: content.prevRoot,
    root: content.root,
    intervalCreditWh: content.intervalCreditWh.toString(),
    cumulativeCreditWh: content.cumulativeCreditWh.toString(),
    cumulativeDebitWh: content.cumulativeDebitWh.toString(),
    leafCount: content.leafCount,
    dataHash: content.dataHash,
    contentHash: batch.contentHash,
    heldWh: batch.heldWh.toString(),
    registryVersion: batch.registryVersion.toString(),
    sealedMs: batch.sealedMs,
    ...(batch.voidedMs !== undefined && { voidedMs: batch.voidedMs }),
  };
}

/** Where a batch is on its way; `sealed` before the relayer has begun. */
export function statusJson(status: SettlementStatus | undefined) {
  if (status === undefined) return { state: "sealed" };
  return {
    ...{ state: status.state, changedMs: status.changedMs },
    ...(status.reason !== undefined && { reason: status.reason }),
    ...(status.transactionHash !== undefined && { transactionHash: status.transactionHash }),
    ...(status.blockNumber !== undefined && { blockNumber: status.blockNumber }),
  };
}

/** What an authority said. */
export function attestationJson({
  authority,
  authoritySetEpoch,
  signature,
  refusal,
  receivedMs,
}: Attestation) {
  return {
    ...{ authority, authoritySetEpoch, receivedMs },
    ...(signature !== undefined && { signature }),
    ...(refusal !== undefined && { refusal }),
  };
}
