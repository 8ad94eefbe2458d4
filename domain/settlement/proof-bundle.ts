import { type Wh, ZERO_WH } from "../metering/units.ts";
import type { Evidence, EvidenceAccount, EvidencePoint } from "./evidence.ts";
import type { IndexedLeaf, MerkleSumTree, ProofNode } from "./merkle-sum-tree.ts";
import { type SettlementContent, type SettlementRecord, recordOf } from "./message.ts";
import type { Hex, SettlementDomain } from "./settlement.ts";

/** A service point at this batch's boundary and at the one before: their difference is what was measured. */
export interface BundlePoint extends EvidencePoint {
  /** 0 where the account's service point was not in the batch before. */
  readonly previousCreditWh: Wh;
}

/** An authority's signature over the settlement under one epoch of the authority set. */
export interface BundleSignature {
  /** EVM address, lower case. */
  readonly authority: Hex;
  readonly authoritySetEpoch: number;
  /** 65 bytes. */
  readonly signature: Hex;
}

/** The account's figures in the batch before. */
export interface PreviousFigures {
  readonly interval: number;
  readonly creditWh: Wh;
  readonly debitWh: Wh;
  readonly heldWh: Wh;
}

/**
 * What a customer needs to check their own credit from the meter to the chain, with nobody's help: measured
 * differences, leaf, path, total, signed message, and which contract holds its record.
 */
export interface ProofBundle {
  readonly version: typeof BUNDLE_VERSION;
  readonly domain: SettlementDomain;
  readonly regionName: string;
  readonly settlement: SettlementContent;
  readonly record: SettlementRecord;
  readonly leaf: IndexedLeaf;
  /** Measured, above the region's cap so far, not credited yet. */
  readonly heldWh: Wh;
  readonly siblings: readonly ProofNode[];
  readonly points: readonly BundlePoint[];
  /** Absent where the account is new in this batch. */
  readonly previous?: PreviousFigures;
  readonly signatures: readonly BundleSignature[];
}

export const BUNDLE_VERSION = 1;

/** Where a bundle comes from: one batch, the one before it, and what was said of it. */
export interface BundleSource {
  readonly domain: SettlementDomain;
  readonly regionName: string;
  readonly settlement: SettlementContent;
  readonly evidence: Evidence;
  /** Evidence of the batch it chains to; `undefined` for a region's first. */
  readonly previous: Evidence | undefined;
  /** Built over `evidence.accounts`. */
  readonly tree: MerkleSumTree;
  readonly signatures: readonly BundleSignature[];
}

/** The bundle of an account; `undefined` where the batch has no such account. */
export function createBundle(source: BundleSource, account: Hex): ProofBundle | undefined {
  const index = source.evidence.accounts.findIndex((candidate) => candidate.account === account);
  const found = source.evidence.accounts[index];
  if (found === undefined) return undefined;
  const before = source.previous?.accounts.find((candidate) => candidate.account === account);
  const previous = before &&
    source.previous && {
      interval: source.previous.interval,
      creditWh: before.creditWh,
      debitWh: before.debitWh,
      heldWh: before.heldWh,
    };
  return {
    version: BUNDLE_VERSION,
    domain: source.domain,
    regionName: source.regionName,
    settlement: source.settlement,
    record: recordOf(source.settlement),
    leaf: { index, account, creditWh: found.creditWh, debitWh: found.debitWh },
    heldWh: found.heldWh,
    siblings: source.tree.proofOf(index).siblings,
    points: differences(found, before),
    ...(previous && { previous }),
    signatures: source.signatures,
  };
}

function differences(account: EvidenceAccount, before: EvidenceAccount | undefined): readonly BundlePoint[] {
  const values = new Map(before?.points.map((point) => [point.servicePoint, point.creditWh]));
  return account.points.map((point) => ({
    ...point,
    previousCreditWh: values.get(point.servicePoint) ?? ZERO_WH,
  }));
}

/** A bundle as JSON holds it: amounts are decimal strings, because JSON numbers are floats in most readers. */
export interface BundleJson {
  readonly version: number;
  readonly chainId: number;
  readonly contract: Hex;
  readonly region: { readonly number: number; readonly name: string };
  readonly settlement: Decimal<Omit<SettlementContent, "region">>;
  readonly record: Decimal<SettlementRecord>;
  readonly leaf: Decimal<IndexedLeaf>;
  readonly heldWh: string;
  readonly siblings: readonly Decimal<ProofNode>[];
  readonly points: readonly Decimal<BundlePoint>[];
  readonly previous?: Decimal<PreviousFigures>;
  readonly signatures: readonly BundleSignature[];
}

/** The same fields with each amount as a decimal string. */
export type Decimal<T> = { readonly [K in keyof T]: T[K] extends bigint ? string : T[K] };

/** The JSON form of a bundle; `parseBundle` reads it back. */
export function bundleToJson(bundle: ProofBundle): BundleJson {
  const { region, ...settlement } = bundle.settlement;
  return {
    version: bundle.version,
    chainId: bundle.domain.chainId,
    contract: bundle.domain.verifyingContract,
    region: { number: region, name: bundle.regionName },
    settlement: decimal(settlement),
    record: decimal(bundle.record),
    leaf: decimal(bundle.leaf),
    heldWh: bundle.heldWh.toString(),
    siblings: bundle.siblings.map(decimal),
    points: bundle.points.map(decimal),
    ...(bundle.previous && { previous: decimal(bundle.previous) }),
    signatures: bundle.signatures,
  };
}

function decimal<T extends object>(fields: T): Decimal<T> {
  const entries = Object.entries(fields).map(([name, value]): [string, unknown] => [
    name,
    typeof value === "bigint" ? value.toString() : value,
  ]);
  return Object.fromEntries(entries) as Decimal<T>;
}
