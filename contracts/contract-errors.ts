import { isCallException, isError } from "ethers/utils";
import { GridrootError } from "../service/errors.ts";
import { accessManagerAbi, settlementAbi } from "./artifact.ts";

/**
 * The error to give a caller for what ethers threw:
 *
 * - `contract-*` for a custom error of the contract or of its AccessManager, the name in kebab case (`AlreadySettled` is
 *   `contract-already-settled`), its arguments in the message; `contract-reverted` for any other revert. The same
 *   call gives the same answer until the contract's state changes, so they are not retryable.
 * - `contract-missing` where nothing, or something else, answers at the address.
 * - `chain-unavailable`, retryable, for everything else: the node was not reached or did not do its work.
 */
export function contractError(cause: unknown): GridrootError {
  if (cause instanceof GridrootError) return cause;
  const data = revertData(cause);
  if (data !== undefined) {
    const error = settlementAbi.error(data) ?? accessManagerAbi.error(data);
    if (error === undefined)
      return new GridrootError("contract-reverted", "the contract reverted", { cause });
    const message = `${error.name}(${error.given.map(String).join(", ")})`;
    return new GridrootError(contractErrorCode(error.name), message, { cause });
  }
  if (isError(cause, "BAD_DATA")) {
    return new GridrootError("contract-missing", "no settlement contract answers at the address", { cause });
  }
  const reason = reasonOf(cause);
  return new GridrootError("chain-unavailable", reason, { cause, retryable: true });
}

// Not ethers' whole message: it holds the endpoint's address, which may be a secret, and whole transactions.
function reasonOf(cause: unknown): string {
  if (!isEthersError(cause)) return cause instanceof Error ? cause.message : String(cause);
  const said = (cause.error as { readonly message?: unknown } | undefined)?.message;
  return typeof said === "string" ? said : cause.shortMessage;
}

/** Whether ethers threw it; `error` is then what the node said, where it said anything. */
export function isEthersError(
  cause: unknown,
): cause is Error & { readonly shortMessage: string; readonly error?: unknown } {
  return cause instanceof Error && typeof (cause as { shortMessage?: unknown }).shortMessage === "string";
}

/** `AlreadySettled` gives `contract-already-settled`. */
export function contractErrorCode(name: string): string {
  return `contract${name.replace(/ERC\d+|[A-Z]/g, (start) => `-${start.toLowerCase()}`)}`;
}

/** What a revert returned; "0x" for a revert without data; `undefined` where nothing reverted. */
function revertData(cause: unknown): string | undefined {
  return isCallException(cause) ? (cause.data ?? "0x") : undefined;
}
