import type { Receipt } from "../window-chain.ts";

/** One line of the report. Without a goal a figure is only reported. */
export interface GasFigure {
  readonly name: string;
  /** Execution: gasUsed - 21,000 - calldata at 16 gas a byte, 4 for a zero byte. */
  readonly gas: number;
  readonly goal: number | null;
  /** The whole transaction. */
  readonly total: number;
}

/** The figure of a transaction, of which `parts` are alike: a batch of claims counts each of them. */
export function figureOf(name: string, goal: number | null, receipt: Receipt, parts = 1): GasFigure {
  return {
    name,
    gas: Math.round(executionGas(receipt) / parts),
    goal,
    total: receipt.gasUsed,
  };
}

/** What the transaction used beside its own 21,000 gas and its calldata's. */
export function executionGas({ gasUsed, calldata }: Receipt): number {
  let calldataGas = 0;
  for (let at = 2; at < calldata.length; at += 2) {
    calldataGas += calldata[at] === "0" && calldata[at + 1] === "0" ? 4 : 16;
  }
  return gasUsed - 21_000 - calldataGas;
}
