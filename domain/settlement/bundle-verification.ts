import type { Keccak } from "./hasher.ts";
import { verifyProof } from "./merkle-sum-tree.ts";
import { recordOf, recoverAuthority } from "./message.ts";
import type { BundlePoint, ProofBundle } from "./proof-bundle.ts";
import type { Hex } from "./settlement.ts";

/** One named check of a bundle. */
export interface BundleCheck {
  readonly name:
    "measured-difference" | "balance" | "merkle-path" | "content-hash" | "signatures" | "authority-quorum";
  readonly passed: boolean;
  /** The figures that were compared, in a sentence. */
  readonly detail: string;
}

/** Whose signatures count, from a source that the verifier trusts: the contract, or a published list. */
export interface TrustedAuthorities {
  readonly addresses: readonly Hex[];
  /** How many of them make a settlement valid. */
  readonly threshold: number;
}

/**
 * Checks a bundle without a network: from what the meters counted to the leaf, from the leaf to the root with its
 * sums, from the root to the signed message. A bundle is good when every check passed; `signatures` is there where
 * the bundle has any, `authority-quorum` where `trusted` is given. That the contract holds the record is the one
 * question left for the chain: `verify(region, record, leaf, siblings)`.
 */
export function verifyBundle(
  hasher: Keccak,
  bundle: ProofBundle,
  trusted?: TrustedAuthorities,
): readonly BundleCheck[] {
  const signers = signersOf(bundle);
  return [
    measuredDifference(bundle),
    balance(bundle),
    merklePath(hasher, bundle),
    contentHashCheck(bundle),
    ...(bundle.signatures.length > 0 ? [signatures(bundle, signers)] : []),
    ...(trusted ? [quorum(bundle, signers, trusted)] : []),
  ];
}

function measuredDifference({ points, previous, leaf, heldWh, settlement }: ProofBundle): BundleCheck {
  const measuredWh = sum(points, (point) => point.creditWh - point.previousCreditWh);
  const before = previous ?? { interval: settlement.prevInterval, creditWh: 0n, debitWh: 0n, heldWh: 0n };
  const creditedWh = leaf.creditWh - before.creditWh;
  const debitedWh = leaf.debitWh - before.debitWh;
  const heldDeltaWh = heldWh - before.heldWh;
  const passed =
    before.interval === settlement.prevInterval &&
    creditedWh >= 0n &&
    debitedWh >= 0n &&
    measuredWh === creditedWh - debitedWh + heldDeltaWh;
  const detail = `registers moved by ${measuredWh} Wh since the batch before; credited ${creditedWh} Wh, debited ${debitedWh} Wh, held back ${heldDeltaWh} Wh`;
  return { name: "measured-difference", passed, detail };
}

function balance({ points, leaf, heldWh, settlement }: ProofBundle): BundleCheck {
  const entitledWh = sum(points, (point) => point.creditWh);
  const distinct = new Set(points.map((point) => point.servicePoint)).size === points.length;
  const inTime = points.every((point) => point.t <= settlement.interval);
  const passed = distinct && inTime && leaf.creditWh - leaf.debitWh === entitledWh - heldWh;
  const detail = `${points.length} service points count ${entitledWh} Wh; leaf: credit ${leaf.creditWh} Wh, debit ${leaf.debitWh} Wh; held ${heldWh} Wh`;
  return { name: "balance", passed, detail };
}

function merklePath(hasher: Keccak, { leaf, siblings, settlement }: ProofBundle): BundleCheck {
  const { root, cumulativeCreditWh: rootSumWh, leafCount } = settlement;
  const passed = verifyProof(hasher, { root, rootSumWh, leafCount }, leaf, siblings);
  const detail = `leaf ${leaf.index} of ${leafCount} under root ${root} with a sum of ${rootSumWh} Wh`;
  return { name: "merkle-path", passed, detail };
}

function contentHashCheck({ record, settlement }: ProofBundle): BundleCheck {
  const expected = recordOf(settlement);
  const passed =
    record.contentHash === expected.contentHash &&
    record.root === expected.root &&
    record.interval === expected.interval &&
    record.cumulativeCreditWh === expected.cumulativeCreditWh &&
    record.cumulativeDebitWh === expected.cumulativeDebitWh &&
    record.leafCount === expected.leafCount;
  return { name: "content-hash", passed, detail: `the settlement's content hash is ${expected.contentHash}` };
}

function signatures(bundle: ProofBundle, signers: readonly (Hex | undefined)[]): BundleCheck {
  const genuine = bundle.signatures.every(({ authority }, i) => signers[i] === authority);
  const keys = bundle.signatures.map((signature) => `${signature.authority} ${signature.authoritySetEpoch}`);
  const passed = genuine && new Set(keys).size === keys.length;
  const detail = `signed by ${bundle.signatures.map((signature) => signature.authority).join(", ")}`;
  return { name: "signatures", passed, detail };
}

// Signatures of different epochs do not add up: the contract counts those of one.
function quorum(
  bundle: ProofBundle,
  signers: readonly (Hex | undefined)[],
  trusted: TrustedAuthorities,
): BundleCheck {
  const byEpoch = new Map<number, Set<Hex>>();
  for (const [i, { authoritySetEpoch }] of bundle.signatures.entries()) {
    const signer = signers[i];
    if (signer === undefined || !trusted.addresses.includes(signer)) continue;
    byEpoch.set(authoritySetEpoch, (byEpoch.get(authoritySetEpoch) ?? new Set()).add(signer));
  }
  const most = Math.max(0, ...[...byEpoch.values()].map((set) => set.size));
  const detail = `${most} of the trusted authorities signed, ${trusted.threshold} are needed`;
  return { name: "authority-quorum", passed: most >= trusted.threshold, detail };
}

function signersOf(bundle: ProofBundle): readonly (Hex | undefined)[] {
  return bundle.signatures.map(({ authoritySetEpoch, signature }) =>
    recoverAuthority(bundle.domain, { ...bundle.settlement, authoritySetEpoch }, signature),
  );
}

function sum(points: readonly BundlePoint[], of: (point: BundlePoint) => bigint): bigint {
  return points.reduce((total, point) => total + of(point), 0n);
}
