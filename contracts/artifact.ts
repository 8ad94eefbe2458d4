import { Interface } from "ethers/abi";
import type { Hex } from "../domain/settlement/settlement.ts";
import generated from "./generated/Settlement.json" with { type: "json" };

/** The contract's ABI, for encoding and decoding. */
export const settlementInterface: Interface = new Interface(JSON.stringify(generated.abi));

/** The creation code, without constructor arguments. */
export const settlementBytecode: Hex = generated.bytecode as Hex;

/** SHA-256 over the Solidity sources that the generated file was compiled from. */
export const settlementSourceHash: string = generated.sourceHash;

/**
 * Whether `code`, as `eth_getCode` gives it, is this contract: equal to the compiled code everywhere but in the
 * places of immutable values, which the constructor fills in.
 */
export function isSettlementCode(code: string): boolean {
  const expected = generated.deployedBytecode;
  return code.length === expected.length && withoutImmutables(code) === withoutImmutables(expected);
}

function withoutImmutables(code: string): string {
  let kept = "";
  let from = 0;
  for (const { start, length } of generated.immutables) {
    kept += code.slice(from, 2 + 2 * start);
    from = 2 + 2 * (start + length);
  }
  return kept + code.slice(from);
}
