import type { Wh } from "../metering/units.ts";

/** `0x` and lower-case hex digits. */
export type Hex = `0x${string}`;

/**
 * The EIP-712 message that authorities sign and the contract accepts:
 * `Settlement(uint32 region,uint32 round,uint64 interval,uint64 prevInterval,bytes32 prevRoot,bytes32 root,
 * uint64 intervalCreditWh,uint64 cumulativeCreditWh,uint64 cumulativeDebitWh,uint32 leafCount,bytes32 dataHash,
 * uint32 authoritySetEpoch)`.
 */
export interface Settlement {
  /** The number under which the region is registered on chain. */
  readonly region: number;
  readonly round: number;
  /** The interval's end, unix seconds. */
  readonly interval: number;
  /** The end of the batch before, 0 for the first. */
  readonly prevInterval: number;
  readonly prevRoot: Hex;
  readonly root: Hex;
  readonly intervalCreditWh: Wh;
  readonly cumulativeCreditWh: Wh;
  readonly cumulativeDebitWh: Wh;
  readonly leafCount: number;
  readonly dataHash: Hex;
  readonly authoritySetEpoch: number;
}

/** The EIP-712 domain of a deployment: name `Gridroot Settlement`, version `1`. */
export interface SettlementDomain {
  readonly chainId: number;
  readonly verifyingContract: Hex;
}

/** One account's totals in a batch. Both only rise from batch to batch of a region. */
export interface Leaf {
  /** EVM address, lower case. */
  readonly account: Hex;
  readonly creditWh: Wh;
  readonly debitWh: Wh;
}
