import { AbiCoder } from "ethers/abi";
import { keccak256 } from "ethers/crypto";
import { hashMessage, TypedDataEncoder } from "ethers/hash";
import { recoverAddress } from "ethers/transaction";
import { isHex } from "./hex.ts";
import type { Hex, Settlement, SettlementDomain } from "./settlement.ts";

/** What a batch says, without the authority set that signs it. */
export type SettlementContent = Omit<Settlement, "authoritySetEpoch">;

/** The EIP-712 types of the message, in the contract's order; for ethers' `signTypedData`. */
export const SETTLEMENT_TYPES = {
  Settlement: [
    { name: "region", type: "uint32" },
    { name: "round", type: "uint32" },
    { name: "interval", type: "uint64" },
    { name: "prevInterval", type: "uint64" },
    { name: "prevRoot", type: "bytes32" },
    { name: "root", type: "bytes32" },
    { name: "intervalCreditWh", type: "uint64" },
    { name: "cumulativeCreditWh", type: "uint64" },
    { name: "cumulativeDebitWh", type: "uint64" },
    { name: "leafCount", type: "uint32" },
    { name: "dataHash", type: "bytes32" },
    { name: "authoritySetEpoch", type: "uint32" },
  ],
};

/**
 * The types of a veto against a pending settlement: `settlementHash` is its content hash, `epoch` the current one of
 * the authorities. For ethers' `signTypedData`.
 */
export const VETO_TYPES = {
  Veto: [
    { name: "region", type: "uint32" },
    { name: "round", type: "uint32" },
    { name: "interval", type: "uint64" },
    { name: "settlementHash", type: "bytes32" },
    { name: "epoch", type: "uint32" },
  ],
};

/** The types of a set's decision to be replaced: `epoch` is the one that ends, `members` ascend. */
export const ROTATION_TYPES = {
  Rotation: [
    { name: "epoch", type: "uint32" },
    { name: "threshold", type: "uint8" },
    { name: "vetoThreshold", type: "uint8" },
    { name: "members", type: "address[]" },
  ],
};

const CONTENT_FIELDS = SETTLEMENT_TYPES.Settlement.slice(0, -1);

/** The domain in the form that ethers takes: name `Gridroot Settlement`, version `1`. */
export function typedDomain(domain: SettlementDomain): {
  name: string;
  version: string;
  chainId: number;
  verifyingContract: string;
} {
  const { chainId, verifyingContract } = domain;
  return { name: "Gridroot Settlement", version: "1", chainId, verifyingContract };
}

/**
 * keccak256 of the ABI encoding of the message without `authoritySetEpoch`: two batches are the same batch exactly
 * when this is equal, whichever authority set signed them.
 */
export function contentHash(content: SettlementContent): Hex {
  const types = CONTENT_FIELDS.map((field) => field.type);
  const values = CONTENT_FIELDS.map((field) => content[field.name as keyof SettlementContent]);
  return keccak256(AbiCoder.defaultAbiCoder().encode(types, values)) as Hex;
}

/**
 * What the contract keeps of an accepted batch, as a commitment; claims bring it along. Solidity `Record {bytes32
 * contentHash; bytes32 root; uint64 interval; uint64 cumulativeCreditWh; uint64 cumulativeDebitWh; uint32 leafCount;}`.
 */
export interface SettlementRecord extends Pick<
  Settlement,
  "root" | "interval" | "cumulativeCreditWh" | "cumulativeDebitWh" | "leafCount"
> {
  readonly contentHash: Hex;
}

/** The record of a batch. */
export function recordOf(content: SettlementContent): SettlementRecord {
  const { root, interval, cumulativeCreditWh, cumulativeDebitWh, leafCount } = content;
  return {
    contentHash: contentHash(content),
    root,
    interval,
    cumulativeCreditWh,
    cumulativeDebitWh,
    leafCount,
  };
}

/** The EIP-712 digest that an authority signs. */
export function settlementDigest(domain: SettlementDomain, settlement: Settlement): Hex {
  return TypedDataEncoder.hash(typedDomain(domain), SETTLEMENT_TYPES, settlement) as Hex;
}

/**
 * Who signed the settlement, lower case; `undefined` where the signature is not one that the contract accepts: 65
 * bytes, low s (EIP-2), v of 27 or 28.
 */
export function recoverAuthority(
  domain: SettlementDomain,
  settlement: Settlement,
  signature: Hex,
): Hex | undefined {
  return recover(settlementDigest(domain, settlement), signature);
}

/** The text that an authority signs (EIP-191) to refuse a batch: three lines, without a final line break. */
export function refusalMessage(contentHash: Hex, reason: string): string {
  return `Gridroot refusal\n${contentHash}\n${reason}`;
}

/** Who signed the refusal, lower case; `undefined` as for `recoverAuthority`. */
export function recoverRefusal(contentHash: Hex, reason: string, signature: Hex): Hex | undefined {
  return recover(hashMessage(refusalMessage(contentHash, reason)) as Hex, signature);
}

// ethers also reads the 64-byte form and v of 0 or 1, which the contract does not.
function recover(digest: Hex, signature: Hex): Hex | undefined {
  if (!isHex(signature, 65) || !(signature.endsWith("1b") || signature.endsWith("1c"))) return undefined;
  try {
    return recoverAddress(digest, signature).toLowerCase() as Hex;
  } catch {
    // High s, or no point of the curve: nobody's signature.
    return undefined;
  }
}
