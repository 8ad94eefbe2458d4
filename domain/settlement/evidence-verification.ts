import { type Wh, ZERO_WH } from "../metering/units.ts";
import { buildBatch, elapsedIntervals } from "./batch.ts";
import { SettlementError } from "./errors.ts";
import { type Evidence, type EvidenceAccount, dataHash, decodeEvidence, encodeEvidence } from "./evidence.ts";
import type { Keccak } from "./hasher.ts";
import { ZERO_HASH } from "./hex.ts";
import { buildTree } from "./merkle-sum-tree.ts";
import type { SettlementContent } from "./message.ts";
import type { Hex } from "./settlement.ts";

/** Why an authority refuses to sign a batch. */
export type EvidenceFault =
  | "data-hash-differs"
  | "evidence-malformed"
  | "header-differs"
  | "terms-differ"
  | "previous-missing"
  | "previous-differs"
  | "interval-invalid"
  | "leaf-count-differs"
  | "root-differs"
  | "credit-sum-differs"
  | "debit-sum-differs"
  | "interval-credit-differs"
  | "cap-exceeded"
  | "account-vanished"
  | "service-point-vanished"
  | "credit-fell"
  | "debit-fell"
  | "balance-differs"
  | "allotment-differs";

export type EvidenceVerdict =
  { readonly ok: true; readonly evidence: Evidence } | { readonly ok: false; readonly reason: EvidenceFault };

/** What was agreed for a region, from the verifier's own configuration, never from the file. */
export interface AgreedTerms {
  readonly intervalLengthS: number;
  readonly capWh: Wh;
}

/**
 * Recomputes everything that the file and the one before it say about a settlement: hash, root, sums, chaining,
 * monotone totals per account, the cap and its allotment. `previousFile` is the verified file of the batch that this
 * one chains to, `undefined` for a region's first. Without `agreed` the caller compares `evidence.capWh` and
 * `evidence.intervalLengthS` with what was agreed itself. What only others know stays with the caller as well:
 * whether the boundary values are what the meters said, and whether the parent is the chain's tip.
 */
export function verifyEvidence(
  hasher: Keccak,
  file: Uint8Array,
  previousFile: Uint8Array | undefined,
  settlement: SettlementContent,
  agreed?: AgreedTerms,
): EvidenceVerdict {
  if (dataHash(hasher, file) !== settlement.dataHash) return refuse("data-hash-differs");
  const evidence = decode(file);
  const previous = previousFile && decode(previousFile);
  if (evidence === undefined || (previousFile !== undefined && previous === undefined)) {
    return refuse("evidence-malformed");
  }
  if (agreed && (evidence.capWh !== agreed.capWh || evidence.intervalLengthS !== agreed.intervalLengthS)) {
    return refuse("terms-differ");
  }
  const reason =
    headerFault(evidence, settlement) ??
    chainFault(hasher, evidence, previous, previousFile) ??
    sumFault(hasher, evidence, previous, settlement) ??
    accountsFault(evidence, previous) ??
    rebuildFault(hasher, evidence, previous, file);
  return reason === undefined ? { ok: true, evidence } : refuse(reason);
}

function refuse(reason: EvidenceFault): EvidenceVerdict {
  return { ok: false, reason };
}

function decode(file: Uint8Array): Evidence | undefined {
  try {
    return decodeEvidence(file);
  } catch (error) {
    if (error instanceof SettlementError) return undefined;
    throw error;
  }
}

function headerFault(evidence: Evidence, settlement: SettlementContent): EvidenceFault | undefined {
  const same =
    evidence.region === settlement.region &&
    evidence.round === settlement.round &&
    evidence.interval === settlement.interval &&
    evidence.prevInterval === settlement.prevInterval &&
    evidence.prevRoot === settlement.prevRoot;
  return same ? undefined : "header-differs";
}

function chainFault(
  hasher: Keccak,
  evidence: Evidence,
  previous: Evidence | undefined,
  previousFile: Uint8Array | undefined,
): EvidenceFault | undefined {
  if (previous === undefined || previousFile === undefined) {
    if (evidence.prevInterval !== 0) return "previous-missing";
    const first = evidence.prevRoot === ZERO_HASH && evidence.prevDataHash === ZERO_HASH;
    return first ? intervalFault(evidence, undefined) : "previous-differs";
  }
  const chained =
    evidence.region === previous.region &&
    evidence.intervalLengthS === previous.intervalLengthS &&
    evidence.prevInterval === previous.interval &&
    evidence.prevDataHash === dataHash(hasher, previousFile) &&
    evidence.prevRoot === rootOf(hasher, previous);
  return chained ? intervalFault(evidence, previous) : "previous-differs";
}

function intervalFault(evidence: Evidence, previous: Evidence | undefined): EvidenceFault | undefined {
  if (evidence.intervalLengthS === 0 || evidence.interval % evidence.intervalLengthS !== 0) {
    return "interval-invalid";
  }
  return previous !== undefined && evidence.interval <= previous.interval ? "interval-invalid" : undefined;
}

function sumFault(
  hasher: Keccak,
  evidence: Evidence,
  previous: Evidence | undefined,
  settlement: SettlementContent,
): EvidenceFault | undefined {
  if (evidence.accounts.length === 0 || evidence.accounts.length !== settlement.leafCount) {
    return "leaf-count-differs";
  }
  const creditWh = sum(evidence, "creditWh");
  if (creditWh !== settlement.cumulativeCreditWh) return "credit-sum-differs";
  if (sum(evidence, "debitWh") !== settlement.cumulativeDebitWh) return "debit-sum-differs";
  const intervalCreditWh = creditWh - (previous === undefined ? 0n : sum(previous, "creditWh"));
  if (intervalCreditWh !== settlement.intervalCreditWh) return "interval-credit-differs";
  const elapsed = BigInt(elapsedIntervals(previous, evidence));
  if (intervalCreditWh > evidence.capWh * elapsed) return "cap-exceeded";
  return rootOf(hasher, evidence) === settlement.root ? undefined : "root-differs";
}

function rootOf(hasher: Keccak, evidence: Evidence): Hex | undefined {
  try {
    return buildTree(hasher, evidence.accounts).root;
  } catch (error) {
    // A total beyond 64 bits has no root.
    if (error instanceof SettlementError) return undefined;
    throw error;
  }
}

function sum(evidence: Evidence, field: "creditWh" | "debitWh"): bigint {
  return evidence.accounts.reduce((total, account) => total + account[field], 0n);
}

function accountsFault(evidence: Evidence, previous: Evidence | undefined): EvidenceFault | undefined {
  const now = new Map(evidence.accounts.map((account) => [account.account, account]));
  for (const before of previous?.accounts ?? []) {
    const account = now.get(before.account);
    if (account === undefined) return "account-vanished";
    if (account.creditWh < before.creditWh) return "credit-fell";
    if (account.debitWh < before.debitWh) return "debit-fell";
    const points = new Set(account.points.map((point) => point.servicePoint));
    if (before.points.some((point) => !points.has(point.servicePoint))) return "service-point-vanished";
  }
  return evidence.accounts.every(isBalanced) ? undefined : "balance-differs";
}

function isBalanced(account: EvidenceAccount): boolean {
  const entitledWh = account.points.reduce((total, point) => total + point.creditWh, ZERO_WH as bigint);
  return account.creditWh - account.debitWh + account.heldWh === entitledWh;
}

// What is left after the named checks is the split between credit, debit and held amounts: the builder is run again
// on the boundary values, and its file has to be the same to the byte.
function rebuildFault(
  hasher: Keccak,
  evidence: Evidence,
  previous: Evidence | undefined,
  file: Uint8Array,
): EvidenceFault | undefined {
  const boundaries = evidence.accounts.flatMap(({ account, points }) =>
    points.map((point) => ({ account, ...point })),
  );
  try {
    const rebuilt = buildBatch(hasher, previous, { ...evidence, boundaries });
    const same = sameBytes(encodeEvidence(rebuilt.evidence), file);
    return same ? undefined : "allotment-differs";
  } catch (error) {
    if (error instanceof SettlementError) return "allotment-differs";
    throw error;
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
