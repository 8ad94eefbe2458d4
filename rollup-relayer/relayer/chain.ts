import type { JsonRpcProvider } from "ethers/providers";
import { contractError } from "../../contracts/client.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import type { Inclusion } from "../../ledger/attempts.ts";
import { GridrootError } from "../../service/errors.ts";

/** The part of an ethers provider that the relayer uses. */
export type ChainProvider = Pick<JsonRpcProvider, "send" | "estimateGas" | "call">;

/** What a node said to a raw transaction. */
export type SendOutcome =
  /** It is in the pool, or mined. */
  | "accepted"
  /** The node has it already. */
  | "known"
  /** The nonce is used, by this transaction or another: the receipt decides. */
  | "nonce-used"
  /** An earlier nonce is missing. */
  | "nonce-gap"
  /** The pool holds another transaction of this nonce that pays as much. */
  | "underpriced";

/** Where the chain stands. */
export interface Head {
  readonly blockNumber: number;
  /** The sender's next nonce by what is mined. */
  readonly nextNonce: number;
}

/** What a transaction may cost per gas. */
export interface Fees {
  readonly maxFeeWei: bigint;
  readonly maxPriorityFeeWei: bigint;
}

/** A call as it would be sent. */
export interface PostCall {
  readonly from: Hex;
  readonly to: Hex;
  readonly data: Hex;
}

interface RpcReceipt {
  readonly transactionHash: Hex;
  readonly status: Hex;
  readonly blockNumber: Hex;
  readonly blockHash: Hex;
  readonly gasUsed: Hex;
}

/**
 * One endpoint, in the relayer's terms. Every call rejects with `chain-unavailable`, retryable, where the node does
 * not answer within the bound or answers with an error that says nothing about the transaction.
 */
export class Chain {
  readonly #timeoutMs: number;
  readonly #provider: ChainProvider;

  constructor(options: { readonly timeoutMs: number }, dependencies: { readonly provider: ChainProvider }) {
    this.#timeoutMs = options.timeoutMs;
    this.#provider = dependencies.provider;
  }

  async chainId(): Promise<number> {
    return Number(await this.#send("eth_chainId", []));
  }

  /** The nonce is asked for after the block, so it is at least the one of that block. */
  async head(sender: Hex): Promise<Head> {
    const blockNumber = Number(await this.#send("eth_blockNumber", []));
    return {
      blockNumber,
      nextNonce: Number(await this.#send("eth_getTransactionCount", [sender, "latest"])),
    };
  }

  /** The sender's next nonce as of a block. */
  async nextNonceAt(sender: Hex, blockNumber: number): Promise<number> {
    return Number(await this.#send("eth_getTransactionCount", [sender, quantity(blockNumber)]));
  }

  /** What became of a transaction on the chain's current branch; `undefined` where it is not included. */
  async inclusion(hash: Hex): Promise<Inclusion | undefined> {
    const receipt = (await this.#send("eth_getTransactionReceipt", [hash])) as RpcReceipt | null;
    if (receipt === null) return undefined;
    return {
      hash,
      succeeded: BigInt(receipt.status) === 1n,
      blockNumber: Number(receipt.blockNumber),
      blockHash: receipt.blockHash,
      gasUsed: BigInt(receipt.gasUsed),
    };
  }

  /** Hands a signed transaction to the node. A rejection says nothing about whether the node has it. */
  async send(raw: Hex): Promise<SendOutcome> {
    try {
      await this.#send("eth_sendRawTransaction", [raw]);
      return "accepted";
    } catch (error) {
      const text = errorText(error);
      const outcome = sendOutcome(text);
      if (outcome !== undefined) return outcome;
      // Without its cause: ethers puts the whole transaction into it, which is no matter for a log.
      throw new GridrootError("chain-unavailable", text, { retryable: true });
    }
  }

  /** What a call would use. Rejects with a `contract-*` error, not retryable, where it would revert. */
  async estimateGas(call: PostCall): Promise<bigint> {
    return this.#bounded(this.#provider.estimateGas(call));
  }

  /** Why a call reverts on the state after `blockNumber`, as an error code; `unknown` where it does not. */
  async revertReason(call: PostCall, blockNumber: number): Promise<string> {
    try {
      await this.#bounded(this.#provider.call({ ...call, blockTag: blockNumber }));
      return "unknown";
    } catch (error) {
      if (error instanceof GridrootError && !error.retryable) return error.code;
      throw error;
    }
  }

  /** Twice the base fee and the node's tip, so that a transaction stays good while the base fee rises for six blocks. */
  async fees(): Promise<Fees & { readonly baseFeeWei: bigint }> {
    const [block, tip] = await Promise.all([
      this.#send("eth_getBlockByNumber", ["latest", false]) as Promise<{ baseFeePerGas: Hex }>,
      this.#send("eth_maxPriorityFeePerGas", []) as Promise<Hex>,
    ]);
    const baseFeeWei = BigInt(block.baseFeePerGas);
    const maxPriorityFeeWei = BigInt(tip);
    return { baseFeeWei, maxPriorityFeeWei, maxFeeWei: 2n * baseFeeWei + maxPriorityFeeWei };
  }

  #send(method: string, params: unknown[]): Promise<unknown> {
    return this.#bounded(this.#provider.send(method, params) as Promise<unknown>);
  }

  async #bounded<T>(call: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(
        () =>
          reject(
            new GridrootError("chain-unavailable", `no answer within ${this.#timeoutMs} ms`, {
              retryable: true,
            }),
          ),
        this.#timeoutMs,
      );
    });
    try {
      return await Promise.race([call, timeout]);
    } catch (cause) {
      throw contractError(cause);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Reads a node's words; nodes agree on the meaning, not on the wording. `undefined` where they say something else. */
export function sendOutcome(text: string): SendOutcome | undefined {
  if (/already known|known transaction|already.?exists|alreadyknown|already imported/i.test(text))
    return "known";
  if (/nonce.{0,12}too low|nonce.{0,20}already been used|old nonce|nonce_?expired/i.test(text))
    return "nonce-used";
  if (/nonce.{0,12}too high|nonce gap|future nonce/i.test(text)) return "nonce-gap";
  if (/underpriced|fee too low to (replace|compete)/i.test(text)) return "underpriced";
  return undefined;
}

/** What the innermost error says: the node's own words, which ethers wraps, or what kept it from being asked. */
function errorText(error: unknown): string {
  let text = String(error);
  let next: unknown = error;
  for (let depth = 0; depth < 6 && next instanceof Object; depth += 1) {
    const { message, info, error: inner, cause } = next as Record<string, unknown>;
    if (typeof message === "string") text = message;
    next = cause ?? (info as Record<string, unknown> | undefined)?.["error"] ?? inner;
  }
  return text;
}

function quantity(value: number): Hex {
  return `0x${value.toString(16)}`;
}
