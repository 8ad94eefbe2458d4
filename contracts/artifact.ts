import type { Hex } from "../domain/settlement/settlement.ts";
import { ContractAbi } from "./contract-abi.ts";
import type { AccessManagerAbi, SettlementAbi } from "./generated/abi.ts";
import accessManager from "./generated/AccessManager.json" with { type: "json" };
import settlement from "./generated/Settlement.json" with { type: "json" };

/** The contract's ABI, for encoding and decoding. */
export const settlementAbi: ContractAbi<SettlementAbi> = new ContractAbi(settlement.abi);

/** The contract's functions: what each is given and what it answers. */
export type SettlementFunctions = SettlementAbi["functions"];

/** The code under which callers see one of the contract's errors. */
export type SettlementErrorCode = SettlementAbi["errors"][keyof SettlementAbi["errors"]];

/** The creation code, without constructor arguments. */
export const settlementBytecode: Hex = settlement.bytecode as Hex;

/** SHA-256 over the Solidity sources that the generated file was compiled from. */
export const settlementSourceHash: string = settlement.sourceHash;

/** OpenZeppelin's manager of who may call which function of governance. */
export const accessManagerAbi: ContractAbi<AccessManagerAbi> = new ContractAbi(accessManager.abi);

/** The manager's creation code, without constructor arguments. */
export const accessManagerBytecode: Hex = accessManager.bytecode as Hex;

/**
 * Whether `code`, as `eth_getCode` gives it, is the settlement contract: equal to the compiled code everywhere but in
 * the places of immutable values, which the constructor fills in.
 */
export function isSettlementCode(code: string): boolean {
  return isCodeOf(settlement, code);
}

/** Whether `code`, as `eth_getCode` gives it, is the manager's. */
export function isAccessManagerCode(code: string): boolean {
  return isCodeOf(accessManager, code);
}

interface CompiledCode {
  readonly deployedBytecode: string;
  readonly immutables: readonly { readonly start: number; readonly length: number }[];
}

function isCodeOf({ deployedBytecode, immutables }: CompiledCode, code: string): boolean {
  const masked = (hex: string) => withoutImmutables(hex, immutables);
  return code.length === deployedBytecode.length && masked(code) === masked(deployedBytecode);
}

function withoutImmutables(code: string, immutables: CompiledCode["immutables"]): string {
  let kept = "";
  let from = 0;
  for (const { start, length } of immutables) {
    kept += code.slice(from, 2 + 2 * start);
    from = 2 + 2 * (start + length);
  }
  return kept + code.slice(from);
}
