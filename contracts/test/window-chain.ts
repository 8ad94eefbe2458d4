import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getCreateAddress } from "ethers/address";
import { concat } from "ethers/utils";
import { Wallet } from "ethers/wallet";
import type { Wh } from "../../domain/metering/units.ts";
import {
  ROTATION_TYPES,
  SETTLEMENT_TYPES,
  type SettlementContent,
  VETO_TYPES,
  contentHash,
  typedDomain,
} from "../../domain/settlement/message.ts";
import type { Hex, Settlement } from "../../domain/settlement/settlement.ts";
import {
  accessManagerAbi,
  accessManagerBytecode,
  type SettlementFunctions,
  settlementAbi,
  settlementBytecode,
} from "../artifact.ts";
import { encodePosts, joinSignatures } from "../client.ts";
import { startHardhatNode } from "../local-chain/hardhat-node.ts";

const CHAIN_ID = 31_337;
const DEPLOYER = new Wallet(`0x${"11".repeat(32)}`);

/** A contract with a window, and a chain whose time the test sets. */
export interface WindowChain {
  /** The instant of the latest block, unix seconds. */
  nowS(): number;
  /** The next transaction is mined at this instant. */
  warp(toS: number): Promise<void>;
  /** Sends as the deployer, who governs. Resolves with the error's name where it reverts, or with the receipt. */
  send(data: string): Promise<Receipt | { readonly reverted: string }>;
  /** As `send`, where nothing may revert. */
  mustSend(data: string): Promise<Receipt>;
  /** What a view of the contract answers. */
  read<Name extends keyof SettlementFunctions>(
    method: Name,
    given: SettlementFunctions[Name]["given"],
  ): Promise<SettlementFunctions[Name]["answered"]>;
  stop(): Promise<void>;
  /** Ascending by address. */
  readonly members: readonly Wallet[];
  readonly settlement: Hex;
}

export interface Receipt {
  readonly gasUsed: number;
  readonly calldata: string;
}

export interface WindowTerms {
  readonly members: readonly Wallet[];
  readonly threshold: number;
  readonly vetoThreshold: number;
  readonly windowS: number;
  readonly intervalLengthS: number;
  readonly startInterval: number;
  readonly regions: readonly number[];
  readonly capWh: Wh;
}

/** The first `count` of a fixed row of wallets, ascending by address. */
export function memberWallets(count: number, from = 1): readonly Wallet[] {
  return Array.from(
    { length: count },
    (_, n) => new Wallet(`0x${(from + n).toString(16).padStart(64, "0")}`),
  ).sort((a, b) => (a.address.toLowerCase() < b.address.toLowerCase() ? -1 : 1));
}

/** Starts a node in this process at the instant `startInterval`, and deploys both contracts on it. */
export async function startWindowChain(terms: WindowTerms): Promise<WindowChain> {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-window-chain-"));
  const node = await startHardhatNode({
    chainId: CHAIN_ID,
    accounts: [{ privateKey: DEPLOYER.privateKey as Hex, balanceWei: 10n ** 24n }],
    genesisTimestampS: terms.startInterval,
    host: "127.0.0.1",
    port: 0,
    folder,
  });
  let nonce = 0;
  let nowS = terms.startInterval;
  const transact = async (to: Hex | null, data: string) => {
    const raw = await DEPLOYER.signTransaction({
      type: 2,
      chainId: CHAIN_ID,
      to,
      data,
      nonce: nonce++,
      gasLimit: 16_000_000n,
      maxFeePerGas: 10n ** 10n,
      maxPriorityFeePerGas: 0n,
    });
    const hash = await node.perform("eth_sendRawTransaction", [raw]);
    const receipt = (await node.perform("eth_getTransactionReceipt", [hash])) as {
      status: string;
      gasUsed: string;
      blockNumber: string;
    };
    const block = (await node.perform("eth_getBlockByNumber", [receipt.blockNumber, false])) as {
      timestamp: string;
    };
    nowS = Number(block.timestamp);
    return receipt;
  };
  const create = async (code: string, encoded: string) => {
    const address = getCreateAddress({ from: DEPLOYER.address, nonce }).toLowerCase() as Hex;
    const { status } = await transact(null, concat([code, encoded]));
    assert.equal(status, "0x1", "the contract is created");
    return address;
  };
  const manager = await create(accessManagerBytecode, accessManagerAbi.encodeConstructed([DEPLOYER.address]));
  const settlement = await create(
    settlementBytecode,
    settlementAbi.encodeConstructed([
      manager,
      terms.intervalLengthS,
      terms.windowS,
      terms.threshold,
      terms.vetoThreshold,
      terms.members.map((member) => member.address),
    ]),
  );
  const send: WindowChain["send"] = async (data) => {
    const receipt = await transact(settlement, data);
    if (receipt.status === "0x1") return { gasUsed: Number(receipt.gasUsed), calldata: data };
    return { reverted: await revertName(data) };
  };
  const revertName = async (data: string): Promise<string> => {
    try {
      await node.perform("eth_call", [{ from: DEPLOYER.address, to: settlement, data }, "latest"]);
    } catch (error) {
      const revertData = (error as { data?: unknown }).data;
      const text = typeof revertData === "string" ? revertData : (revertData as { data: string }).data;
      const custom = settlementAbi.error(text) ?? accessManagerAbi.error(text);
      return custom?.name ?? text;
    }
    return "nothing";
  };
  const mustSend: WindowChain["mustSend"] = async (data) => {
    const sent = await send(data);
    if ("reverted" in sent) assert.fail(`the contract reverted with ${sent.reverted}`);
    return sent;
  };
  for (const region of terms.regions) {
    const data = settlementAbi.encode("registerRegion", [
      region,
      `region-${region}`,
      terms.capWh,
      terms.startInterval,
    ]);
    await mustSend(data);
  }
  return {
    members: terms.members,
    settlement,
    nowS: () => nowS,
    warp: async (toS) => {
      await node.perform("evm_setNextBlockTimestamp", [toS]);
    },
    send,
    mustSend,
    read: async (method, given) => {
      const data = settlementAbi.encode(method, given);
      const answer = (await node.perform("eth_call", [{ to: settlement, data }, "latest"])) as string;
      return settlementAbi.decode(method, answer);
    },
    stop: async () => {
      await node.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The calldata of a post of these settlements, each signed by all of `signers`. */
export async function signedPost(
  chain: Pick<WindowChain, "settlement">,
  settlements: readonly Settlement[],
  signers: readonly Wallet[],
): Promise<Hex> {
  return encodePosts(
    await Promise.all(
      settlements.map(async (settlement) => ({
        settlement,
        signatures: await signaturesBy(chain, signers, SETTLEMENT_TYPES, settlement),
      })),
    ),
  );
}

/** The signers' signatures over a settlement, joined in the contract's order. */
export async function signedSettlement(
  chain: Pick<WindowChain, "settlement">,
  settlement: Settlement,
  signers: readonly Wallet[],
): Promise<Hex> {
  return joinSignatures(await signaturesBy(chain, signers, SETTLEMENT_TYPES, settlement));
}

/** The signers' signatures over a veto of the settlement. */
export async function signedVeto(
  chain: Pick<WindowChain, "settlement">,
  { epoch, settlement }: { readonly epoch: number; readonly settlement: SettlementContent },
  signers: readonly Wallet[],
): Promise<Hex> {
  const { region, round, interval } = settlement;
  const message = { region, round, interval, settlementHash: contentHash(settlement), epoch };
  return joinSignatures(await signaturesBy(chain, signers, VETO_TYPES, message));
}

/** What a set decides about the next one. */
export interface Rotation {
  readonly epoch: number;
  readonly threshold: number;
  readonly vetoThreshold: number;
  /** Ascending. */
  readonly members: readonly string[];
}

/** The signers' signatures over a rotation. */
export async function signedRotation(
  chain: Pick<WindowChain, "settlement">,
  rotation: Rotation,
  signers: readonly Wallet[],
): Promise<Hex> {
  return joinSignatures(await signaturesBy(chain, signers, ROTATION_TYPES, rotation));
}

async function signaturesBy(
  { settlement: verifyingContract }: Pick<WindowChain, "settlement">,
  signers: readonly Wallet[],
  types: Record<string, { name: string; type: string }[]>,
  message: object,
) {
  const domain = typedDomain({ chainId: CHAIN_ID, verifyingContract });
  return Promise.all(
    signers.map(async (signer) => ({
      authority: signer.address as Hex,
      signature: (await signer.signTypedData(domain, types, message)) as Hex,
    })),
  );
}
