import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonRpcProvider } from "ethers/providers";
import { Wallet } from "ethers/wallet";
import pino from "pino";
import { wh } from "../../domain/metering/units.ts";
import { type Keccak, createHasher } from "../../domain/settlement/hasher.ts";
import { type MerkleSumTree, buildTree } from "../../domain/settlement/merkle-sum-tree.ts";
import { SETTLEMENT_TYPES, typedDomain } from "../../domain/settlement/message.ts";
import type { Hex, Leaf, Settlement } from "../../domain/settlement/settlement.ts";
import { noFaults } from "../../service/faults.ts";
import {
  type AuthoritySignature,
  type SettlementClient,
  chainProvider,
  encodePost,
  settlementClient,
} from "../client.ts";
import { type SettlementDeployment, deploySettlement } from "../deploy.ts";
import type { FundedAccount } from "../local-chain/hardhat-node.ts";
import { LocalChain } from "../local-chain/local-chain.ts";

export const CHAIN_ID = 31337;
export const INTERVAL_LENGTH_S = 900;
/** 1,000 intervals ago. */
export const START_INTERVAL = (Math.floor(Date.now() / 1000 / INTERVAL_LENGTH_S) - 1000) * INTERVAL_LENGTH_S;
export const REGION = 7;
export const CAP_WH = wh(1_000_000_000n);

/** A local chain in a folder of its own, with the contract deployed and one region registered. */
export interface ChainFixture {
  readonly chain: LocalChain;
  readonly provider: JsonRpcProvider;
  readonly client: SettlementClient;
  readonly deployer: Wallet;
  readonly authorities: readonly Wallet[];
  readonly hasher: Keccak;
  /** The tree and the signed settlement that continues the region's tip by one interval. */
  next(leaves: readonly Leaf[]): Promise<{ tree: MerkleSumTree; settlement: Settlement; data: Hex }>;
  /** Posts calldata as the deployer; rejects where the contract reverts. */
  post(data: Hex): Promise<void>;
  readonly stop: () => Promise<void>;
}

/** A wallet of the n-th test key. */
export function testWallet(n: number): Wallet {
  return new Wallet(`0x${n.toString(16).padStart(64, "0")}`);
}

/** What the test chain's first block funds: the first test key. */
export function testAccounts(): readonly FundedAccount[] {
  return [{ privateKey: testWallet(1).privateKey as Hex, balanceWei: 10n ** 24n }];
}

/** The terms of the fixture's contract: 2 of 3 authorities, the deployer owns it. */
export function testDeployment(): SettlementDeployment {
  return {
    authorities: [11, 12, 13].map((n) => testWallet(n).address as Hex),
    threshold: 2,
    intervalLengthS: INTERVAL_LENGTH_S,
    owner: testWallet(1).address as Hex,
    regions: [{ regionId: REGION, name: "bangkok", capWh: CAP_WH, startInterval: START_INTERVAL }],
  };
}

/** A started local chain that nothing is deployed on, and its folder. */
export async function startTestChain(
  dataDir?: string,
): Promise<{ chain: LocalChain; provider: JsonRpcProvider; dataDir: string; stop: () => Promise<void> }> {
  const folder = dataDir ?? (await mkdtemp(join(tmpdir(), "gridroot-test-chain-")));
  const chain = new LocalChain(
    {
      dataDir: folder,
      host: "127.0.0.1",
      port: 0,
      chainId: CHAIN_ID,
      accounts: testAccounts(),
    },
    { log: pino({ level: "silent" }), faults: noFaults },
  );
  await chain.start();
  const provider = chainProvider(chain.url, CHAIN_ID, { pollingMs: 20 });
  return {
    chain,
    provider,
    dataDir: folder,
    stop: async () => {
      if (!provider.destroyed) provider.destroy();
      await chain.stop();
      if (dataDir === undefined) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Starts a chain and deploys the contract of `testDeployment`. */
export async function startChainFixture(): Promise<ChainFixture> {
  const { chain, provider, stop } = await startTestChain();
  const deployer = testWallet(1).connect(provider);
  const { address } = await deploySettlement(testDeployment(), { signer: deployer, provider });
  const client = settlementClient(address, provider);
  const authorities = [11, 12, 13].map(testWallet);
  const hasher = await createHasher();
  const next: ChainFixture["next"] = async (leaves) => {
    const tip = await client.readTip(REGION);
    const tree = buildTree(hasher, leaves);
    const settlement: Settlement = {
      region: REGION,
      round: tip.round,
      interval: (tip.interval === 0 ? START_INTERVAL : tip.interval) + INTERVAL_LENGTH_S,
      prevInterval: tip.interval,
      prevRoot: tip.root,
      root: tree.root,
      intervalCreditWh: wh(tree.rootSumWh - tip.cumulativeCreditWh),
      cumulativeCreditWh: tree.rootSumWh,
      cumulativeDebitWh: wh(leaves.reduce((sum, leaf) => sum + leaf.debitWh, 0n)),
      leafCount: leaves.length,
      dataHash: `0x${"da".repeat(32)}`,
      authoritySetEpoch: 1,
    };
    const signatures = await sign(settlement, authorities.slice(0, 2), address);
    return { tree, settlement, data: encodePost(settlement, signatures) };
  };
  // Fees and gas are given, and the receipt is there at once: hundreds of settlements take seconds.
  const post: ChainFixture["post"] = async (data) => {
    const raw = await deployer.signTransaction({
      type: 2,
      chainId: CHAIN_ID,
      to: address,
      data,
      nonce: await provider.getTransactionCount(deployer.address),
      gasLimit: 500_000n,
      maxFeePerGas: 10n ** 10n,
      maxPriorityFeePerGas: 10n ** 9n,
    });
    const hash = (await provider.send("eth_sendRawTransaction", [raw])) as Hex;
    const receipt = await provider.getTransactionReceipt(hash);
    assert.equal(receipt?.status, 1, "the settlement is accepted");
  };
  return { chain, provider, client, deployer, authorities, hasher, next, post, stop };
}

/** Each wallet's signature over the settlement. */
export async function sign(
  settlement: Settlement,
  wallets: readonly Wallet[],
  verifyingContract: Hex,
): Promise<readonly AuthoritySignature[]> {
  const domain = typedDomain({ chainId: CHAIN_ID, verifyingContract });
  return Promise.all(
    wallets.map(async (wallet) => ({
      authority: wallet.address as Hex,
      signature: (await wallet.signTypedData(domain, SETTLEMENT_TYPES, settlement)) as Hex,
    })),
  );
}

/** `count` accounts, ascending, the n-th with `creditWh(n)` and no debit. */
export function testLeaves(count: number, creditWh: (n: number) => bigint): readonly Leaf[] {
  return Array.from({ length: count }, (_, n) => ({
    account: `0x${(0x1001 + n).toString(16).padStart(40, "0")}`,
    creditWh: wh(creditWh(n)),
    debitWh: wh(0n),
  }));
}
