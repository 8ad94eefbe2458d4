import { AbiCoder } from "ethers/abi";
import { getCreateAddress } from "ethers/address";
import type { Provider, Signer } from "ethers/providers";
import { concat } from "ethers/utils";
import type { Wh } from "../domain/metering/units.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { GridrootError } from "../service/errors.ts";
import { isSettlementCode, settlementBytecode, settlementInterface } from "./artifact.ts";
import { type SettlementClient, contractError, settlementClient } from "./client.ts";

/** A region as it is registered on chain. */
export interface RegionDeployment {
  /** 1 to 2^32 - 1. */
  readonly regionId: number;
  /** 1 to 31 bytes; unique. */
  readonly name: string;
  /** The most credit one interval of the region can add; above 0. */
  readonly capWh: Wh;
  /** Unix seconds, a multiple of the interval length; the first settlement ends after it. */
  readonly startInterval: number;
}

/** What a deployment consists of. */
export interface SettlementDeployment {
  /** 1 to 32 addresses, in any order. */
  readonly authorities: readonly Hex[];
  /** How many of them must sign. */
  readonly threshold: number;
  readonly intervalLengthS: number;
  /** Who registers regions; has to be the deployer where a region is to be registered. */
  readonly owner: Hex;
  readonly regions: readonly RegionDeployment[];
}

/**
 * Deploys the contract by the signer's first transaction, and registers the regions. May be repeated after a crash
 * at any point and at each start: what is there is reused, only missing regions are registered. A region keeps the
 * start it was registered with.
 *
 * The address follows from the deployer alone, so the deployer's key must have no other use before. Rejects with
 * `contract-changed` where other code, other authorities, another threshold, owner or interval length, or a region
 * with another name or cap is there: old records stay bound to the old contract, so only an explicit reset of the
 * chain may replace it; `deployer-used` where the deployer's first transaction was something else; `deploy-failed`;
 * and as `contractError`. `block` is the block of the deployment: the contract has no logs before it.
 */
export async function deploySettlement(
  deployment: SettlementDeployment,
  { signer, provider }: { readonly signer: Signer; readonly provider: Provider },
): Promise<{ readonly address: Hex; readonly block: number }> {
  try {
    const from = await signer.getAddress();
    const address = getCreateAddress({ from, nonce: 0 }).toLowerCase() as Hex;
    const code = await provider.getCode(address);
    if (code === "0x") await create(deployment, signer, provider);
    else if (!isSettlementCode(code)) throw changed(`other code at ${address}`);
    const client = settlementClient(address, provider);
    await requireSameTerms(deployment, client);
    await registerMissing(deployment.regions, client, signer);
    return { address, block: await deploymentBlock(address, provider) };
  } catch (cause) {
    throw contractError(cause);
  }
}

async function create(deployment: SettlementDeployment, signer: Signer, provider: Provider): Promise<void> {
  const used = await provider.getTransactionCount(await signer.getAddress(), "pending");
  if (used !== 0)
    throw new GridrootError("deployer-used", "the deployer's first transaction was another one");
  const { owner, intervalLengthS, threshold } = deployment;
  const terms = AbiCoder.defaultAbiCoder().encode(
    ["address", "uint64", "uint8", "address[]"],
    [owner, intervalLengthS, threshold, ascending(deployment.authorities)],
  );
  await sendAndWait(signer, { data: concat([settlementBytecode, terms]) as Hex, nonce: 0 });
}

async function requireSameTerms(deployment: SettlementDeployment, client: SettlementClient): Promise<void> {
  const [owner, intervalLengthS, set] = await Promise.all([
    client.readOwner(),
    client.readIntervalLengthS(),
    client.readAuthoritySet(),
  ]);
  if (owner !== deployment.owner.toLowerCase()) throw changed(`owner ${owner}`);
  if (intervalLengthS !== deployment.intervalLengthS) throw changed(`intervals of ${intervalLengthS} s`);
  if (set.threshold !== deployment.threshold) throw changed(`a threshold of ${set.threshold}`);
  if (set.members.join() !== ascending(deployment.authorities).join()) {
    throw changed(`authorities ${set.members.join(", ")}`);
  }
}

async function registerMissing(
  regions: readonly RegionDeployment[],
  client: SettlementClient,
  signer: Signer,
): Promise<void> {
  const registered = new Set(await client.readRegions());
  for (const { regionId, name, capWh, startInterval } of regions) {
    if (registered.has(regionId)) {
      const terms = await client.readRegion(regionId);
      if (terms.name === name && terms.capWh === capWh) continue;
      throw changed(`region ${regionId} as ${terms.name} with a cap of ${terms.capWh} Wh`);
    }
    const args = [regionId, name, capWh, startInterval];
    const data = settlementInterface.encodeFunctionData("registerRegion", args) as Hex;
    await sendAndWait(signer, { to: client.address, data });
  }
}

async function sendAndWait(
  signer: Signer,
  request: { readonly to?: Hex; readonly data: Hex; readonly nonce?: number },
): Promise<void> {
  const sent = await signer.sendTransaction(request);
  const receipt = await sent.wait();
  if (receipt?.status !== 1) throw new GridrootError("deploy-failed", `transaction ${sent.hash} failed`);
}

/** The block of the constructor's event. */
async function deploymentBlock(address: Hex, provider: Provider): Promise<number> {
  const topics = settlementInterface.encodeFilterTopics("AuthoritySetChanged", [1]);
  const [log] = await provider.getLogs({ address, topics, fromBlock: 0, toBlock: "latest" });
  if (log === undefined) throw changed(`no constructor event at ${address}`);
  return log.blockNumber;
}

function ascending(addresses: readonly Hex[]): readonly Hex[] {
  return addresses.map((address) => address.toLowerCase() as Hex).sort();
}

function changed(found: string): GridrootError {
  return new GridrootError(
    "contract-changed",
    `the chain has ${found}, which is not what is configured; reset the chain to deploy anew`,
  );
}
