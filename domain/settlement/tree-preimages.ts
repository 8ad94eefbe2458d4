import { type Wh, wh } from "../metering/units.ts";
import { SettlementError } from "./errors.ts";
import { writeHex } from "./hex.ts";
import type { Leaf } from "./settlement.ts";

/** The largest amount the formats can carry, 2^64 - 1 Wh. */
export const MAX_WH: Wh = wh(2n ** 64n - 1n);

/** A keccak-256 hash. */
export const HASH_BYTES = 32;

/**
 * Writes what is hashed for a leaf: 0x00, index u32 at 1, account at 5, creditWh u64 at 25, debitWh u64 at 33; 41 bytes.
 * The buffer is reused by the next call. Throws `energy-overflow`, `malformed-hex`.
 */
export function leafPreimage(): (index: number, leaf: Leaf) => Uint8Array {
  const bytes = new Uint8Array(41);
  const view = new DataView(bytes.buffer);
  return (index, leaf) => {
    view.setUint32(1, index);
    writeHex(bytes, 5, leaf.account, 20);
    view.setBigUint64(25, checkedWh(leaf.creditWh));
    view.setBigUint64(33, checkedWh(leaf.debitWh));
    return bytes;
  };
}

/**
 * Writes what is hashed for a node: 0x01, left at 1, right at 33, left sum u64 at 65, right sum u64 at 73; 81 bytes. The
 * buffer is reused by the next call. The sums must have been checked.
 */
export function nodePreimage(): (
  left: Uint8Array,
  right: Uint8Array,
  leftSum: bigint,
  rightSum: bigint,
) => Uint8Array {
  const bytes = new Uint8Array(81);
  bytes[0] = 1;
  const view = new DataView(bytes.buffer);
  return (left, right, leftSum, rightSum) => {
    bytes.set(left, 1);
    bytes.set(right, 33);
    view.setBigUint64(65, leftSum);
    view.setBigUint64(73, rightSum);
    return bytes;
  };
}

/** The amount itself. Throws `energy-overflow` where 64 bits cannot hold it. */
export function checkedWh(amountWh: bigint): bigint {
  if (amountWh < 0n || amountWh > MAX_WH) {
    throw new SettlementError("energy-overflow", `${amountWh} Wh does not fit 64 bits`);
  }
  return amountWh;
}
