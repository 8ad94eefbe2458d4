import { join } from "node:path";
import { keccak256 } from "ethers/crypto";
import type { Logger } from "pino";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { type Clock, systemClock } from "../../service/clock.ts";
import { GridrootError, invariant } from "../../service/errors.ts";
import type { FaultPoints } from "../../service/faults.ts";
import type { Service } from "../../service/lifecycle.ts";
import { type BlockJournal, type JournalBlock, openJournal } from "./block-journal.ts";
import { type FundedAccount, type HardhatNode, RpcRefusal, startHardhatNode } from "./hardhat-node.ts";
import { MAX_MINED_BLOCKS, SERVED_METHODS, minedBlocks } from "./served-methods.ts";

/** Where a crash test may kill the chain: after a block is mined, and after it is durable but not yet answered for. */
export const LOCAL_CHAIN_FAULT_POINTS = ["chain.mined", "chain.journalled"] as const;

export interface LocalChainOptions {
  /** The journal lies in `{dataDir}/chain/`. */
  readonly dataDir: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly host: string;
  readonly chainId: number;
  /** Funded from the first block; the journal is bound to them. */
  readonly accounts: readonly FundedAccount[];
  /** Calls that may wait for their turn; more are refused with code -32005. Default 1,000. */
  readonly maxWaitingCalls?: number;
}

export interface LocalChainDependencies {
  readonly log: Logger;
  readonly faults: FaultPoints;
  readonly clock?: Clock;
  /** Called once when the journal cannot be written; from then on the chain answers every call with an error. */
  readonly onFailure?: (error: GridrootError) => void;
}

/**
 * A chain for one machine that survives its process: Hardhat's node, with a journal of every block. Each accepted
 * transaction gets a block of its own at once. Nobody sees a block before it is durable in the journal: the calls are
 * served one at a time, and one that mines answers after the journal's sync. A start replays the journal block by
 * block, which gives the same block hashes again, or refuses.
 *
 * `kill -9` loses at most a block that nobody saw, whose sender got no answer and sends again.
 */
export class LocalChain implements Service {
  readonly name = "chain";
  readonly #options: LocalChainOptions;
  readonly #log: Logger;
  readonly #faults: FaultPoints;
  readonly #clock: Clock;
  readonly #onFailure: (error: GridrootError) => void;
  #journal: BlockJournal | undefined;
  #node: HardhatNode | undefined;
  #port: number | undefined;
  /** The last block in the journal. */
  #height = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #failure: GridrootError | undefined;

  constructor(options: LocalChainOptions, dependencies: LocalChainDependencies) {
    this.#options = options;
    this.#log = dependencies.log;
    this.#faults = dependencies.faults;
    this.#clock = dependencies.clock ?? systemClock;
    this.#onFailure = dependencies.onFailure ?? (() => {});
  }

  /** The JSON-RPC endpoint; throws before the start. */
  get url(): string {
    invariant(this.#port !== undefined, "the local chain listens after its start");
    return `http://${this.#options.host}:${this.#port}`;
  }

  /**
   * Rejects with `port-in-use`, `chain-journal-corrupt`, `chain-journal-differs` (written for another chain id or
   * other accounts) or `chain-replay-differs` (another version of Hardhat computes other blocks).
   */
  async start(): Promise<void> {
    const folder = join(this.#options.dataDir, "chain");
    const journal = await openJournal(folder);
    this.#journal = journal;
    if (journal.tornBytes > 0)
      this.#log.warn({ bytes: journal.tornBytes }, "unfinished block cut off the journal");
    const nowS = Math.floor(this.#clock.nowMs() / 1000);
    const genesisTimestampS = journal.header?.genesisTimestampS ?? nowS;
    this.#node = await startHardhatNode({ ...this.#options, folder, genesisTimestampS });
    await this.#beginOrReplay(journal, this.#node, genesisTimestampS);
    this.#port = await this.#node.listen((method, params) => this.#serve(method, params));
    this.#log.info({ url: this.url, block: this.#height }, "local chain listening");
  }

  /** Refuses new calls, finishes the one at work, closes the journal. */
  async stop(): Promise<void> {
    this.#failure ??= new GridrootError("chain-stopped", "the local chain is stopping", { retryable: true });
    await this.#turn;
    await this.#node?.close();
    await this.#journal?.close();
    this.#node = undefined;
    this.#journal = undefined;
  }

  /**
   * Mines empty blocks, so that transactions before them reach their confirmation depth. Durable when it resolves.
   * Rejects with `chain-stopped`, `chain-journal-failed`, or `chain-refused` (too many blocks or waiting calls).
   */
  async mine(blocks: number): Promise<void> {
    try {
      await this.#serve("hardhat_mine", [`0x${blocks.toString(16)}`]);
    } catch (cause) {
      throw this.#failure ?? new GridrootError("chain-refused", String(cause), { cause });
    }
  }

  async #beginOrReplay(journal: BlockJournal, node: HardhatNode, genesisTimestampS: number): Promise<void> {
    const { chainId } = this.#options;
    const genesisHash = (await blockAt(node, 0)).hash;
    if (journal.header === undefined) {
      await journal.begin({ version: 1, chainId, genesisTimestampS, genesisHash });
      return;
    }
    if (journal.header.chainId !== chainId || journal.header.genesisHash !== genesisHash) {
      throw new GridrootError(
        "chain-journal-differs",
        "the journal was written for another chain id or other accounts",
      );
    }
    await node.perform("evm_setAutomine", [false]);
    for (const block of journal.recordedBlocks()) await this.#replay(block, node);
    await node.perform("evm_setAutomine", [true]);
    await this.#catchUp(node);
  }

  async #replay(block: JournalBlock, node: HardhatNode): Promise<void> {
    for (const transaction of block.transactions) await node.perform("eth_sendRawTransaction", [transaction]);
    await node.perform("evm_setNextBlockTimestamp", [block.timestampS]);
    await node.perform("evm_mine", []);
    const replayed = await blockAt(node, block.number);
    if (replayed.hash !== block.hash) {
      throw new GridrootError("chain-replay-differs", `block ${block.number} is not what the journal has`);
    }
    this.#height = block.number;
  }

  // The node counts time on from the last block, as if the chain had not been down since.
  async #catchUp(node: HardhatNode): Promise<void> {
    const pending = (await node.perform("eth_getBlockByNumber", ["pending", false])) as RpcBlock;
    const behindS = Math.floor(this.#clock.nowMs() / 1000) - Number(pending.timestamp);
    if (behindS > 0) await node.perform("evm_increaseTime", [behindS]);
  }

  async #serve(method: string, params: readonly unknown[]): Promise<unknown> {
    if (!SERVED_METHODS.has(method)) throw new RpcRefusal(-32601, `the local chain does not serve ${method}`);
    if (this.#waiting >= (this.#options.maxWaitingCalls ?? 1_000)) {
      throw new RpcRefusal(-32005, "too many calls are waiting for the local chain");
    }
    this.#waiting += 1;
    const call = this.#turn.then(() => this.#perform(method, params)).finally(() => (this.#waiting -= 1));
    this.#turn = call.catch(() => {});
    return call;
  }

  async #perform(method: string, params: readonly unknown[]): Promise<unknown> {
    if (this.#failure !== undefined) throw new RpcRefusal(-32603, this.#failure.message);
    const node = this.#node;
    invariant(node !== undefined, "calls are served while the node runs");
    if (method === "evm_mine" || method === "hardhat_mine")
      return this.#mine(node, minedBlocks(method, params));
    if (method !== "eth_sendRawTransaction") return node.perform(method, params);
    try {
      return await node.perform(method, params);
    } finally {
      await this.#journalNewBlocks(node, params as readonly Hex[]);
    }
  }

  async #mine(node: HardhatNode, blocks: number): Promise<string | null> {
    if (!(blocks >= 0 && blocks <= MAX_MINED_BLOCKS)) {
      throw new RpcRefusal(-32602, `a number of blocks up to ${MAX_MINED_BLOCKS} was expected`);
    }
    for (let mined = 0; mined < blocks; mined += 1) await node.perform("evm_mine", []);
    await this.#journalNewBlocks(node, []);
    return null;
  }

  async #journalNewBlocks(node: HardhatNode, sent: readonly Hex[]): Promise<void> {
    try {
      const blocks = await this.#newBlocks(node, sent);
      if (blocks.length === 0) return;
      this.#faults.hit("chain.mined");
      await this.#journal!.append(blocks);
      this.#height += blocks.length;
      this.#faults.hit("chain.journalled");
    } catch (cause) {
      this.#fail(cause);
    }
  }

  async #newBlocks(node: HardhatNode, sent: readonly Hex[]): Promise<readonly JournalBlock[]> {
    const height = Number(await node.perform("eth_blockNumber", []));
    // What was sent need not be a transaction at all, unless there is a block of it.
    if (height === this.#height) return [];
    const rawByHash = new Map<string, Hex>(sent.map((raw) => [keccak256(raw), raw]));
    const blocks: JournalBlock[] = [];
    for (let number = this.#height + 1; number <= height; number += 1) {
      const { hash, timestamp, transactions } = await blockAt(node, number);
      const raws = transactions.map((transaction) => rawByHash.get(transaction));
      invariant(
        raws.every((raw) => raw !== undefined),
        "a block holds what was just sent",
      );
      blocks.push({ number, timestampS: Number(timestamp), hash, transactions: raws });
    }
    return blocks;
  }

  // The node now has a block that a restart would not have: nobody may be told of it.
  #fail(cause: unknown): never {
    const failure = new GridrootError("chain-journal-failed", "the chain's journal cannot be written", {
      cause,
    });
    this.#failure = failure;
    this.#log.error({ err: failure }, "local chain halted");
    this.#onFailure(failure);
    throw new RpcRefusal(-32603, failure.message);
  }
}

interface RpcBlock {
  readonly hash: Hex;
  readonly timestamp: Hex;
  readonly transactions: readonly Hex[];
}

async function blockAt(node: HardhatNode, number: number): Promise<RpcBlock> {
  return (await node.perform("eth_getBlockByNumber", [`0x${number.toString(16)}`, false])) as RpcBlock;
}
