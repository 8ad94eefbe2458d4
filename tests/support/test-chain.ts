import { mkdtemp, rm } from "node:fs/promises";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonRpcProvider } from "ethers/providers";
import { Wallet } from "ethers/wallet";
import { type SettlementClient, chainProvider, settlementClient } from "../../contracts/client.ts";
import { deploySettlement } from "../../contracts/deploy.ts";
import { type Perform, startHardhatNode } from "../../contracts/local-chain/hardhat-node.ts";
import { wh } from "../../domain/metering/units.ts";
import type { Hex, SettlementDomain } from "../../domain/settlement/settlement.ts";
import { type Signer, privateKeySigner } from "../../rollup-relayer/signer.ts";

/** The chain id of every test chain. */
export const TEST_CHAIN_ID = 31_337;
/** Long past, so that a test's intervals lie before the chain's time. */
export const TEST_START_INTERVAL = 1_700_000_100 - (1_700_000_100 % 900);
/** The cap of every region of a test deployment. */
export const TEST_CAP_WH = wh(1_000_000);

/** A key that follows from a name, for this test process only. */
export function testKey(name: string): Hex {
  return `0x${createHash("sha256").update(`gridroot test ${name}`).digest("hex")}`;
}

/** Accounts with funds on a test chain. */
export const TEST_ACCOUNTS = ["deployer", "relayer", "stranger"].map((name) => ({
  privateKey: testKey(name),
  balanceWei: 10n ** 21n,
}));

/** Three authorities, ascending by address, of whom two must sign. */
export const TEST_AUTHORITIES: readonly Signer[] = ["egat", "mea", "pea"]
  .map((name) => privateKeySigner(testKey(name)))
  .sort((a, b) => (a.address < b.address ? -1 : 1));

export interface TestChain {
  readonly url: string;
  readonly provider: JsonRpcProvider;
  readonly client: SettlementClient;
  readonly domain: SettlementDomain;
  /** Past the gate, and with the node's own controls. */
  readonly perform: Perform;
  /** Puts something between the node and those who ask it over HTTP. */
  setGate(gate: Perform): void;
  stop(): Promise<void>;
}

/** A Hardhat node over HTTP with the contract deployed and these regions registered. */
export async function startTestChain(regions: readonly number[]): Promise<TestChain> {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-test-chain-"));
  const node = await startHardhatNode({
    chainId: TEST_CHAIN_ID,
    accounts: TEST_ACCOUNTS,
    genesisTimestampS: Math.floor(Date.now() / 1000) - 3_600,
    host: "127.0.0.1",
    port: 0,
    folder,
  });
  let gate: Perform = node.perform;
  const url = `http://127.0.0.1:${await node.listen((method, params) => gate(method, params))}`;
  const provider = chainProvider(url, TEST_CHAIN_ID);
  const address = await deployTestSettlement(provider, regions);
  return {
    url,
    provider,
    client: settlementClient(address, provider),
    domain: { chainId: TEST_CHAIN_ID, verifyingContract: address },
    perform: node.perform,
    setGate(next) {
      gate = next;
    },
    async stop() {
      provider.destroy();
      await node.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Deploys the contract for the test authorities, two of three. */
export async function deployTestSettlement(
  provider: JsonRpcProvider,
  regions: readonly number[],
): Promise<Hex> {
  const signer = new Wallet(testKey("deployer"), provider);
  const { address } = await deploySettlement(
    {
      authorities: TEST_AUTHORITIES.map((authority) => authority.address),
      threshold: 2,
      intervalLengthS: 900,
      owner: signer.address as Hex,
      regions: regions.map((regionId) => ({
        regionId,
        name: `region-${regionId}`,
        capWh: TEST_CAP_WH,
        startInterval: TEST_START_INTERVAL,
      })),
    },
    { signer, provider },
  );
  return address;
}
