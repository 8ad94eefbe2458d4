import type { BlockTag, Provider, Signer, TransactionResponse } from "ethers/providers";
import { JsonRpcProvider, Network } from "ethers/providers";
import { FetchRequest, type GetUrlResponse, concat } from "ethers/utils";
import type { IndexedLeaf, ProofNode } from "../domain/settlement/merkle-sum-tree.ts";
import { type SettlementContent, type SettlementRecord, recordOf } from "../domain/settlement/message.ts";
import type { Hex, Settlement } from "../domain/settlement/settlement.ts";
import { type Wh, wh } from "../domain/metering/units.ts";
import { GridrootError } from "../service/errors.ts";
import { type SettlementFunctions, settlementAbi } from "./artifact.ts";
import { contractError } from "./contract-errors.ts";
import type { SettlementAbi } from "./generated/abi.ts";

export type { SettlementErrorCode } from "./artifact.ts";
export { contractError, contractErrorCode } from "./contract-errors.ts";

/** Where a region's next settlement has to continue. */
export interface RegionTip {
  readonly round: number;
  /** Unix seconds; 0 before the region's first settlement, as are the root and the totals. */
  readonly interval: number;
  readonly root: Hex;
  readonly cumulativeCreditWh: Wh;
  readonly cumulativeDebitWh: Wh;
  /** The ring slot of the tip's record: validAt u48, then 26 bytes of the record's hash. */
  readonly recordSlot: Hex;
}

/** What a region was registered with, and what its accounts were minted so far. */
export interface RegionTerms {
  readonly region: number;
  readonly name: string;
  /** The most credit one interval can add. */
  readonly capWh: Wh;
  /** Unix seconds; the first settlement ends after it. */
  readonly startInterval: number;
  readonly mintedWh: Wh;
  /** Unix seconds before which the region neither takes posts nor pays claims; 0 where it was never paused. */
  readonly pausedUntil: number;
  /** Vetoes that wait for a ruling; while there are any, posts are refused. */
  readonly openVetoes: number;
}

/** The authorities whose signatures count now. */
export interface AuthoritySet {
  readonly epoch: number;
  readonly threshold: number;
  /** How many veto a pending record; 0 where all members have to sign, so that none can. */
  readonly vetoThreshold: number;
  /** Lower case, ascending. */
  readonly members: readonly Hex[];
}

/** One authority's signature over a settlement. */
export interface AuthoritySignature {
  readonly authority: Hex;
  /** `r | s | v`, 65 bytes. */
  readonly signature: Hex;
}

/** An accepted settlement as the chain's log tells it. */
export interface SettledEvent extends SettlementRecord {
  readonly region: number;
  readonly round: number;
  readonly intervalCreditWh: Wh;
  readonly dataHash: Hex;
  readonly blockNumber: number;
  readonly blockHash: Hex;
  readonly transactionHash: Hex;
}

/** A settlement with the signatures of k authorities. */
export interface AttestedSettlement {
  readonly settlement: Settlement;
  /** Exactly as many as the set's threshold, in any order. */
  readonly signatures: readonly AuthoritySignature[];
}

/** The calldata of a `post` of one settlement. Rejections as for `encodePosts`. */
export function encodePost(settlement: Settlement, signatures: readonly AuthoritySignature[]): Hex {
  return encodePosts([{ settlement, signatures }]);
}

/**
 * The calldata of a `post` of several settlements, of one region in its order or of several regions. What was accepted
 * before with the same content is skipped by the contract. Throws `duplicate-authority` where two signatures of a
 * settlement are by the same one.
 */
export function encodePosts(attested: readonly AttestedSettlement[]): Hex {
  const settlements = attested.map(({ settlement }) => settlement);
  const signatures = concat(attested.map((one) => joinSignatures(one.signatures)));
  return settlementAbi.encode("post", [signatures, settlements]);
}

/** The signatures, one after the other, in the strictly ascending order of signers that the contract demands. */
export function joinSignatures(signatures: readonly AuthoritySignature[]): Hex {
  const ascending = signatures.toSorted((a, b) =>
    a.authority.toLowerCase() < b.authority.toLowerCase() ? -1 : 1,
  );
  const authorities = new Set(ascending.map(({ authority }) => authority.toLowerCase()));
  if (authorities.size !== ascending.length) {
    throw new GridrootError("duplicate-authority", "an authority signs a settlement once");
  }
  return concat(ascending.map(({ signature }) => signature)) as Hex;
}

/** A client of the contract at `address`; `runner` is a provider for reading, a signer with a provider for claiming. */
export function settlementClient(address: Hex, runner: Provider | Signer): SettlementClient {
  return new SettlementClient(address, runner);
}

/**
 * A provider for one endpoint of a known chain: no question for the chain id before each call, no cached answers,
 * no batching (one slow call does not hold up others). A call that is not answered within `timeoutMs` rejects, and
 * lets its connection go. The caller destroys it.
 */
export function chainProvider(
  url: string,
  chainId: number,
  { pollingMs = 250, timeoutMs = 10_000 }: { readonly pollingMs?: number; readonly timeoutMs?: number } = {},
): JsonRpcProvider {
  const request = new FetchRequest(url);
  request.timeout = timeoutMs;
  request.getUrlFunc = fetchWithin;
  return new JsonRpcProvider(request, chainId, {
    staticNetwork: Network.from(chainId),
    pollingInterval: pollingMs,
    cacheTimeout: -1,
    batchMaxCount: 1,
  });
}

// In place of ethers' own, which leaves the connection of a call open whose bound has passed.
async function fetchWithin(request: FetchRequest): Promise<GetUrlResponse> {
  const { url, method, headers, body, timeout } = request;
  const signal = AbortSignal.timeout(timeout);
  try {
    const response = await fetch(url, { method, headers, body: body && Buffer.from(body), signal });
    return {
      statusCode: response.status,
      statusMessage: response.statusText,
      headers: Object.fromEntries(response.headers),
      body: new Uint8Array(await response.arrayBuffer()),
    };
  } catch (cause) {
    // The host alone: the rest of an endpoint's address may be a secret.
    const { message, cause: reason } = cause as Error;
    const said = reason instanceof Error ? reason.message : message;
    const text = `${new URL(url).host} does not answer: ${said}`;
    throw new GridrootError("chain-unavailable", text, { cause, retryable: true });
  }
}

/**
 * The settlement contract in the domain's types. Reads are at `at` (default `latest`). Every method rejects with
 * the `GridrootError` of `contractError`.
 */
export class SettlementClient {
  readonly address: Hex;
  readonly #runner: Provider | Signer;

  constructor(address: Hex, runner: Provider | Signer) {
    this.address = address;
    this.#runner = runner;
  }

  /** Rejects with `contract-unknown-region`. */
  async readTip(region: number, at?: BlockTag): Promise<RegionTip> {
    const tip = await this.#read("tip", [region], at);
    return {
      round: Number(tip.round),
      interval: Number(tip.interval),
      root: tip.root,
      cumulativeCreditWh: wh(tip.cumulativeCreditWh),
      cumulativeDebitWh: wh(tip.cumulativeDebitWh),
      recordSlot: tip.recordSlot,
    };
  }

  /** Rejects with `contract-unknown-region`. */
  async readRegion(region: number, at?: BlockTag): Promise<RegionTerms> {
    const info = await this.#read("regionInfo", [region], at);
    return {
      region,
      name: info.name,
      capWh: wh(info.capWh),
      startInterval: Number(info.startInterval),
      mintedWh: wh(info.mintedWh),
      pausedUntil: Number(info.pausedUntil),
      openVetoes: Number(info.openVetoes),
    };
  }

  /** The numbers of all registered regions, in order of registration. */
  async readRegions(at?: BlockTag): Promise<readonly number[]> {
    const regions = await this.#read("regions", [], at);
    return regions.map(Number);
  }

  async readAuthoritySet(at?: BlockTag): Promise<AuthoritySet> {
    const set = await this.#read("authoritySet", [], at);
    return {
      epoch: Number(set.epoch),
      threshold: Number(set.threshold),
      vetoThreshold: Number(set.vetoThreshold),
      members: set.members.map((member) => member.toLowerCase() as Hex),
    };
  }

  /** The AccessManager that says who governs, lower case. */
  async readManager(at?: BlockTag): Promise<Hex> {
    const manager = await this.#read("authority", [], at);
    return manager.toLowerCase() as Hex;
  }

  async readIntervalLengthS(at?: BlockTag): Promise<number> {
    return Number(await this.#read("intervalLengthS", [], at));
  }

  /**
   * Whether the contract retains exactly this settlement, whichever authority set signed it. False too once later
   * records have taken its place in the ring of 256.
   */
  async isAccepted(settlement: SettlementContent, at?: BlockTag): Promise<boolean> {
    return this.isRecordAccepted(settlement.region, recordOf(settlement), at);
  }

  /** Whether the contract retains exactly this record of the region. */
  async isRecordAccepted(region: number, record: SettlementRecord, at?: BlockTag): Promise<boolean> {
    return this.#read("isAccepted", [region, record], at);
  }

  /** Whether the contract retains the record and accepts the leaf's proof against it. */
  async verifyOnChain(
    region: number,
    record: SettlementRecord,
    leaf: IndexedLeaf,
    siblings: readonly ProofNode[],
    at?: BlockTag,
  ): Promise<boolean> {
    return this.#read("verify", [region, record, leaf, siblings], at);
  }

  /** What the account was minted from the region so far. */
  async readMintedWh(region: number, account: Hex, at?: BlockTag): Promise<Wh> {
    return wh(await this.#read("mintedWh", [region, account], at));
  }

  /** The account's balance of the credit token, whose unit is 1 Wh. */
  async readBalanceWh(account: Hex, at?: BlockTag): Promise<Wh> {
    return wh(await this.#read("balanceOf", [account], at));
  }

  /** The accepted settlements in the blocks from `fromBlock` to `toBlock`, in the chain's order. */
  async readSettled(range: {
    readonly fromBlock: number;
    readonly toBlock: BlockTag;
    readonly region?: number;
  }): Promise<readonly SettledEvent[]> {
    const topics = settlementAbi.topics(
      "Settled",
      range.region === undefined ? {} : { region: range.region },
    );
    const { fromBlock, toBlock } = range;
    try {
      const logs = await this.#provider().getLogs({ address: this.address, topics, fromBlock, toBlock });
      return logs.map((log) => {
        const { blockNumber, blockHash, transactionHash } = log;
        return {
          ...settledFrom(settlementAbi.event("Settled", log)),
          blockNumber,
          blockHash: blockHash as Hex,
          transactionHash: transactionHash as Hex,
        };
      });
    } catch (cause) {
      throw contractError(cause);
    }
  }

  /**
   * Mints the leaf's account what it was not minted yet; nothing where that is nothing. Resolves when the
   * transaction was sent, not when it is mined.
   */
  async claim(
    region: number,
    record: SettlementRecord,
    leaf: IndexedLeaf,
    siblings: readonly ProofNode[],
  ): Promise<TransactionResponse> {
    return this.#send("claim", [region, record, leaf, siblings]);
  }

  /** Claims for many leaves, strictly ascending by index, with the nodes of `multiproofOf`. */
  async claimBatch(
    region: number,
    record: SettlementRecord,
    leaves: readonly IndexedLeaf[],
    nodes: readonly ProofNode[],
  ): Promise<TransactionResponse> {
    return this.#send("claimBatch", [region, record, leaves, nodes]);
  }

  async #read<Name extends keyof SettlementFunctions>(
    method: Name,
    given: SettlementFunctions[Name]["given"],
    at: BlockTag = "latest",
  ): Promise<SettlementFunctions[Name]["answered"]> {
    try {
      const data = settlementAbi.encode(method, given);
      const answer = await this.#provider().call({ to: this.address, data, blockTag: at });
      return settlementAbi.decode(method, answer);
    } catch (cause) {
      throw contractError(cause);
    }
  }

  async #send<Name extends keyof SettlementFunctions>(
    method: Name,
    given: SettlementFunctions[Name]["given"],
  ): Promise<TransactionResponse> {
    const signer = this.#runner;
    if (!("sendTransaction" in signer)) throw new GridrootError("signer-missing", `${method} needs a signer`);
    try {
      const data = settlementAbi.encode(method, given);
      return await signer.sendTransaction({ to: this.address, data });
    } catch (cause) {
      throw contractError(cause);
    }
  }

  #provider(): Provider {
    const provider = this.#runner.provider;
    if (provider === null)
      throw new GridrootError("provider-missing", "the signer is not connected to a chain");
    return provider;
  }
}

/** The event packs its numbers: round u32, leafCount u32, then the three totals, u64 each. */
function settledFrom(
  event: SettlementAbi["events"]["Settled"],
): Omit<SettledEvent, "blockNumber" | "blockHash" | "transactionHash"> {
  const numbers = BigInt(event.numbers);
  return {
    region: Number(event.region),
    round: Number(numbers >> 224n),
    interval: Number(event.interval),
    root: event.root,
    contentHash: event.contentHash,
    intervalCreditWh: wh(BigInt.asUintN(64, numbers >> 128n)),
    cumulativeCreditWh: wh(BigInt.asUintN(64, numbers >> 64n)),
    cumulativeDebitWh: wh(BigInt.asUintN(64, numbers)),
    leafCount: Number(BigInt.asUintN(32, numbers >> 192n)),
    dataHash: event.dataHash,
  };
}
