import { SigningKey } from "ethers/crypto";
import { hashMessage } from "ethers/hash";
import { computeAddress, Transaction } from "ethers/transaction";
import { refusalMessage, settlementDigest } from "../domain/settlement/message.ts";
import type { Hex, Settlement, SettlementDomain } from "../domain/settlement/settlement.ts";

/** A secp256k1 key that never leaves its holder: a process's memory or a key service. */
export interface Signer {
  /** Lower case. */
  readonly address: Hex;
  /** Signs 32 bytes: 65 bytes r | s | v, low s, v 27 or 28. Rejects, retryable or not, where the holder does. */
  signDigest(digest: Hex): Promise<Hex>;
}

/** A signer over a private key in memory: 0x and 64 hex digits. Throws where it is none. */
export function privateKeySigner(privateKey: Hex): Signer {
  const key = new SigningKey(privateKey);
  return {
    address: computeAddress(key).toLowerCase() as Hex,
    signDigest: (digest) => Promise.resolve(key.sign(digest).serialized as Hex),
  };
}

/** Signs the EIP-712 settlement. */
export function signSettlement(
  signer: Signer,
  domain: SettlementDomain,
  settlement: Settlement,
): Promise<Hex> {
  return signer.signDigest(settlementDigest(domain, settlement));
}

/** Signs a refusal (EIP-191 over `refusalMessage`). */
export function signRefusal(signer: Signer, contentHash: Hex, reason: string): Promise<Hex> {
  return signer.signDigest(hashMessage(refusalMessage(contentHash, reason)) as Hex);
}

/** An EIP-1559 transaction that carries no value. */
export interface UnsignedTransaction {
  readonly chainId: number;
  readonly nonce: number;
  readonly to: Hex;
  readonly data: Hex;
  readonly gasLimit: bigint;
  /** Per gas. */
  readonly maxFeeWei: bigint;
  /** Per gas. */
  readonly maxPriorityFeeWei: bigint;
}

/** Signs a transaction: its hash and the bytes to send. */
export async function signTransaction(
  signer: Signer,
  unsigned: UnsignedTransaction,
): Promise<{ readonly hash: Hex; readonly raw: Hex }> {
  const transaction = Transaction.from({
    type: 2,
    chainId: unsigned.chainId,
    nonce: unsigned.nonce,
    to: unsigned.to,
    data: unsigned.data,
    gasLimit: unsigned.gasLimit,
    maxFeePerGas: unsigned.maxFeeWei,
    maxPriorityFeePerGas: unsigned.maxPriorityFeeWei,
  });
  transaction.signature = await signer.signDigest(transaction.unsignedHash as Hex);
  return { hash: transaction.hash as Hex, raw: transaction.serialized as Hex };
}
