import { isCallException, isError } from "ethers/utils";
import { GridrootError } from "../service/errors.ts";
import { settlementInterface } from "./artifact.ts";

/**
 * The error to give a caller for what ethers threw:
 *
 * - `contract-*` for a custom error of the contract, the name in kebab case (`AlreadySettled` is
 *   `contract-already-settled`), its arguments in the message; `contract-reverted` for any other revert. The same
 *   call gives the same answer until the contract's state changes, so they are not retryable.
 * - `contract-missing` where nothing, or something else, answers at the address.
 * - `chain-unavailable`, retryable, for everything else: the node was not reached or did not do its work.
 */
export function contractError(cause: unknown): GridrootError {
  if (cause instanceof GridrootError) return cause;
  const data = revertData(cause);
  if (data !== undefined) {
    // ethers has no answer for a revert that says nothing, such as that of calldata which cannot be decoded.
    const error = data.length < 10 ? null : settlementInterface.parseError(data);
    if (error === null) return new GridrootError("contract-reverted", "the contract reverted", { cause });
    const message = `${error.name}(${error.args.map(String).join(", ")})`;
    return new GridrootError(contractErrorCode(error.name), message, { cause });
  }
  if (isError(cause, "BAD_DATA")) {
    return new GridrootError("contract-missing", "no settlement contract answers at the address", { cause });
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new GridrootError("chain-unavailable", reason, { cause, retryable: true });
}

/** `AlreadySettled` gives `contract-already-settled`. */
export function contractErrorCode(name: string): string {
  return `contract${name.replace(/ERC20|[A-Z]/g, (start) => `-${start.toLowerCase()}`)}`;
}

/** What a revert returned; "0x" for a revert without data; `undefined` where nothing reverted. */
function revertData(cause: unknown): string | undefined {
  return isCallException(cause) ? (cause.data ?? "0x") : undefined;
}
