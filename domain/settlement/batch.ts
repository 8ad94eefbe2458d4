import { isName } from "../metering/topics.ts";
import { type Wh, ZERO_WH, addWh, subWh, wh } from "../metering/units.ts";
import { allot } from "./allotment.ts";
import { SettlementError } from "./errors.ts";
import {
  type Evidence,
  type EvidenceAccount,
  type EvidencePoint,
  type PartitionOffset,
  dataHash,
  encodeEvidence,
} from "./evidence.ts";
import type { Keccak } from "./hasher.ts";
import { ZERO_HASH, isHex } from "./hex.ts";
import { buildTree } from "./merkle-sum-tree.ts";
import { type SettlementContent, contentHash } from "./message.ts";
import type { Hex } from "./settlement.ts";
import { MAX_WH } from "./tree-preimages.ts";

/** A service point's cumulative credit at a boundary, and whose it is. */
export interface BoundaryValue extends EvidencePoint {
  /** EVM address, lower case. */
  readonly account: Hex;
}

/** What one batch is built from, beside the batch before. */
export interface BatchInput {
  readonly region: number;
  readonly round: number;
  /** The batch's end, unix seconds, a multiple of `intervalLengthS`. */
  readonly interval: number;
  readonly intervalLengthS: number;
  /** The most that one interval may credit in this region. */
  readonly capWh: Wh;
  readonly registryVersion: bigint;
  readonly offsets: readonly PartitionOffset[];
  /** In any order; at most one for each pair of account and service point. */
  readonly boundaries: readonly BoundaryValue[];
}

/** A built batch: its evidence, the evidence as a file, and what the authorities are to sign. */
export interface Batch {
  readonly evidence: Evidence;
  readonly file: Uint8Array;
  readonly content: SettlementContent;
  readonly contentHash: Hex;
}

/**
 * Builds the batch that follows `previous`, the evidence of the batch it chains to (`undefined` for a region's
 * first). The same input gives the same bytes.
 *
 * An account's entitlement is the sum of C(b) over its service points; one that is missing from `boundaries` keeps
 * its value of the batch before, so accounts never disappear. A rise against the previous leaf's credit less debit
 * is credited as far as the region's cap allows, see `allot`; the rest is held. A fall is a debit. The cap is
 * `capWh` for each interval since the previous batch, and for one interval in a region's first batch, because
 * before it the chain knows no instant to count from.
 *
 * Throws `SettlementError`: `no-service-points`, `duplicate-service-point`, `malformed-boundary-value`,
 * `malformed-offsets`, `interval-not-aligned`, `interval-not-after-previous`, `previous-differs` (another region or
 * interval length), `energy-overflow`.
 */
export function buildBatch(hasher: Keccak, previous: Evidence | undefined, input: BatchInput): Batch {
  const elapsed = elapsedIntervals(previous, input);
  const points = collectPoints(previous, input);
  const accounts = creditAccounts(previous, points, wh(input.capWh * BigInt(elapsed)));
  const previousTree = previous && buildTree(hasher, previous.accounts);
  const evidence: Evidence = {
    region: input.region,
    round: input.round,
    interval: input.interval,
    intervalLengthS: input.intervalLengthS,
    prevInterval: previous?.interval ?? 0,
    prevRoot: previousTree?.root ?? ZERO_HASH,
    prevDataHash: previous === undefined ? ZERO_HASH : dataHash(hasher, encodeEvidence(previous)),
    capWh: input.capWh,
    registryVersion: input.registryVersion,
    offsets: sortedOffsets(input.offsets),
    accounts,
  };
  const file = encodeEvidence(evidence);
  const tree = buildTree(hasher, accounts);
  const content: SettlementContent = {
    region: input.region,
    round: input.round,
    interval: input.interval,
    prevInterval: evidence.prevInterval,
    prevRoot: evidence.prevRoot,
    root: tree.root,
    intervalCreditWh: subWh(tree.rootSumWh, previousTree?.rootSumWh ?? ZERO_WH),
    cumulativeCreditWh: tree.rootSumWh,
    cumulativeDebitWh: total(accounts.map((account) => account.debitWh)),
    leafCount: accounts.length,
    dataHash: dataHash(hasher, file),
  };
  return { evidence, file, content, contentHash: contentHash(content) };
}

/** How many intervals' caps a batch may use: those since the previous batch; one in a region's first batch. */
export function elapsedIntervals(
  previous: Pick<Evidence, "region" | "interval" | "intervalLengthS"> | undefined,
  batch: Pick<Evidence, "region" | "interval" | "intervalLengthS">,
): number {
  if (!Number.isSafeInteger(batch.interval) || batch.interval % batch.intervalLengthS !== 0) {
    throw new SettlementError("interval-not-aligned", `${batch.interval} by ${batch.intervalLengthS} s`);
  }
  if (previous === undefined) return 1;
  if (previous.region !== batch.region || previous.intervalLengthS !== batch.intervalLengthS) {
    throw new SettlementError(
      "previous-differs",
      "the previous batch is of another region or interval length",
    );
  }
  if (batch.interval <= previous.interval) {
    throw new SettlementError("interval-not-after-previous", `${batch.interval} after ${previous.interval}`);
  }
  return (batch.interval - previous.interval) / batch.intervalLengthS;
}

type PointsByAccount = ReadonlyMap<Hex, ReadonlyMap<string, EvidencePoint>>;

function collectPoints(previous: Evidence | undefined, input: BatchInput): PointsByAccount {
  const points = new Map<Hex, Map<string, EvidencePoint>>();
  for (const { account, ...point } of input.boundaries) {
    checkBoundary({ account, ...point }, input.interval);
    const ofAccount = points.get(account) ?? new Map<string, EvidencePoint>();
    if (ofAccount.has(point.servicePoint)) {
      throw new SettlementError("duplicate-service-point", `${point.servicePoint} of ${account}`);
    }
    points.set(account, ofAccount.set(point.servicePoint, point));
  }
  for (const { account, points: before } of previous?.accounts ?? []) {
    const ofAccount = points.get(account) ?? new Map<string, EvidencePoint>();
    for (const point of before) {
      if (!ofAccount.has(point.servicePoint)) ofAccount.set(point.servicePoint, point);
    }
    points.set(account, ofAccount);
  }
  if (points.size === 0) throw new SettlementError("no-service-points", "nothing to build a batch from");
  return points;
}

function checkBoundary(value: BoundaryValue, interval: number): void {
  const names = isName(value.servicePoint) && isName(value.meterId) && isHex(value.account, 20);
  const credit = value.creditWh >= 0n && value.creditWh <= MAX_WH;
  const identity = isU32(value.epoch) && isCount(value.seq) && isCount(value.t);
  if (names && credit && identity && value.t <= interval) return;
  throw new SettlementError(
    "malformed-boundary-value",
    `of service point ${value.servicePoint.slice(0, 64)}`,
  );
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function isU32(value: number): boolean {
  return isCount(value) && value < 2 ** 32;
}

function creditAccounts(
  previous: Evidence | undefined,
  points: PointsByAccount,
  capWh: Wh,
): readonly EvidenceAccount[] {
  const before = new Map(previous?.accounts.map((account) => [account.account, account]));
  const changes = [...points.keys()].toSorted().map((account) => {
    const ofAccount = points.get(account)!;
    const sorted = [...ofAccount.keys()].toSorted().map((servicePoint) => ofAccount.get(servicePoint)!);
    const last = before.get(account) ?? { creditWh: ZERO_WH, debitWh: ZERO_WH, heldWh: ZERO_WH };
    const entitledWh = total(sorted.map((point) => point.creditWh));
    const deltaWh = subWh(entitledWh, subWh(last.creditWh, last.debitWh));
    const riseWh = deltaWh > 0n ? deltaWh : ZERO_WH;
    const heldWh = riseWh < last.heldWh ? riseWh : last.heldWh;
    return { account, points: sorted, last, deltaWh, riseWh, heldWh, newWh: subWh(riseWh, heldWh) };
  });
  const allotted = allot(changes, capWh);
  return changes.map(({ account, points, last, deltaWh, riseWh }) => {
    const servedWh = allotted.get(account)!;
    return {
      account,
      creditWh: addWh(last.creditWh, servedWh),
      debitWh: deltaWh < 0n ? subWh(last.debitWh, deltaWh) : last.debitWh,
      heldWh: subWh(riseWh, servedWh),
      points,
    };
  });
}

function sortedOffsets(offsets: readonly PartitionOffset[]): readonly PartitionOffset[] {
  const sorted = offsets
    .map(({ partition, nextOffset }) => ({ partition, nextOffset }))
    .toSorted((a, b) => a.partition - b.partition);
  if (new Set(sorted.map((offset) => offset.partition)).size !== sorted.length) {
    throw new SettlementError("malformed-offsets", "a partition has two offsets");
  }
  return sorted;
}

function total(amounts: readonly Wh[]): Wh {
  const sumWh = amounts.reduce(addWh, ZERO_WH);
  if (sumWh > MAX_WH) throw new SettlementError("energy-overflow", `${sumWh} Wh does not fit 64 bits`);
  return sumWh;
}
