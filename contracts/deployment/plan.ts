import { keccak256 } from "ethers/crypto";
import type { Provider } from "ethers/providers";
import { concat, toUtf8Bytes } from "ethers/utils";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { GridrootError } from "../../service/errors.ts";
import {
  accessManagerAbi,
  accessManagerBytecode,
  isAccessManagerCode,
  isSettlementCode,
  settlementAbi,
  settlementBytecode,
} from "../artifact.ts";
import { type SettlementClient, settlementClient } from "../client.ts";
import {
  DETERMINISTIC_DEPLOYER,
  deterministicAddress,
  deterministicCreation,
  hasDeterministicDeployer,
} from "./deterministic-deployer.ts";
import { findFirstLog } from "./first-log.ts";
import { encodeHandOver, isHandedOver, mayCall } from "./governance.ts";
import type { DeploymentTerms, RegionDeployment } from "./terms.ts";

/** A contract of a deployment, whether it is there yet or not. */
export interface PlannedContract {
  readonly name: "AccessManager" | "Settlement";
  readonly address: Hex;
  readonly salt: Hex;
  /** By name, as the source spells it. */
  readonly constructorArguments: Readonly<Record<string, unknown>>;
  readonly encodedArguments: Hex;
  /** Creation code with the arguments. */
  readonly creationCode: Hex;
  /** Whether this code at the address is the contract. */
  isCode(code: string): boolean;
}

/** What a deployment by this deployer on these terms leads to. */
export interface DeploymentPlan {
  readonly deployer: Hex;
  readonly terms: DeploymentTerms;
  readonly manager: PlannedContract;
  readonly settlement: PlannedContract;
}

/** A transaction that is still missing. */
export interface Step {
  readonly name: string;
  readonly to: Hex;
  readonly data: Hex;
  /** False where only governance may send it: the deployer has handed over, or must announce it first. */
  readonly byDeployer: boolean;
}

/**
 * The contracts' addresses. The manager's follows from label and deployer, who administers it until the hand-over; the
 * settlement contract's from the label, the manager and all terms that its constructor takes.
 */
export function planDeployment(terms: DeploymentTerms, deployer: Hex): DeploymentPlan {
  const salt = keccak256(toUtf8Bytes(`Gridroot deployment ${terms.label}`)) as Hex;
  const manager = plan({
    name: "AccessManager",
    salt,
    constructorArguments: { initialAdmin: deployer },
    encodedArguments: accessManagerAbi.encodeConstructed([deployer]),
    bytecode: accessManagerBytecode,
    isCode: isAccessManagerCode,
  });
  const { intervalLengthS, windowS, threshold, vetoThreshold, authorities } = terms;
  const settlement = plan({
    name: "Settlement",
    salt,
    constructorArguments: {
      manager: manager.address,
      intervalLengthS,
      windowS,
      threshold,
      vetoThreshold,
      members: authorities,
    },
    encodedArguments: settlementAbi.encodeConstructed([
      manager.address,
      intervalLengthS,
      windowS,
      threshold,
      vetoThreshold,
      authorities,
    ]),
    bytecode: settlementBytecode,
    isCode: isSettlementCode,
  });
  return { deployer, terms, manager, settlement };
}

/**
 * The transactions that are missing on chain, in order. Both contracts' code is verified where they are there.
 * Rejects with `contract-changed` where other code has an address of the plan, and where the label's manager governs
 * another settlement contract already: the terms or the code have changed since, and records stay bound to the
 * contract that accepted them, so that only another label, or another chain, may have another contract. The manager has
 * no logs before `fromBlock`.
 */
export async function missingSteps(
  plan: DeploymentPlan,
  provider: Provider,
  fromBlock = 0,
): Promise<readonly Step[]> {
  const { manager, settlement, terms } = plan;
  const steps: Step[] = [];
  const governed = { manager: manager.address, settlement: settlement.address };
  const installed = await hasDeterministicDeployer(provider);
  const [hasManager, hasSettlement] = [await isThere(manager, provider), await isThere(settlement, provider)];
  if (!installed)
    steps.push({
      name: "install the deterministic deployer",
      to: DETERMINISTIC_DEPLOYER,
      data: "0x",
      byDeployer: true,
    });
  if (!hasManager) steps.push(creation(manager));
  else if (!hasSettlement) await requireNoOtherSettlement(plan, fromBlock, provider);
  if (!hasSettlement) steps.push(creation(settlement));
  const handedOver = hasSettlement && hasManager && (await isHandedOver(governed, provider));
  const client = settlementClient(settlement.address, provider);
  const byDeployer = !handedOver || (await mayCall(governed, plan.deployer, "registerRegion", provider));
  for (const region of hasSettlement ? await missingRegions(terms, client) : terms.regions) {
    steps.push({ ...registration(settlement.address, region), byDeployer });
  }
  if (!handedOver) {
    const data = encodeHandOver(governed, terms.governance, plan.deployer);
    steps.push({ name: "hand governance over", to: manager.address, data, byDeployer: true });
  }
  return steps;
}

async function isThere(contract: PlannedContract, provider: Provider): Promise<boolean> {
  const code = await provider.getCode(contract.address);
  if (code !== "0x" && !contract.isCode(code)) throw changed(`other code at ${contract.address}`);
  return code !== "0x";
}

/** What the manager was told to govern is found in its log; a manager without the log's entry governs nothing yet. */
async function requireNoOtherSettlement(
  { manager }: DeploymentPlan,
  fromBlock: number,
  provider: Provider,
): Promise<void> {
  const topics = accessManagerAbi.topics("TargetFunctionRoleUpdated");
  const log = await findFirstLog({ address: manager.address, topics }, fromBlock, provider);
  if (log === undefined) return;
  const { target } = accessManagerAbi.event("TargetFunctionRoleUpdated", log);
  throw changed(`a settlement contract with other terms or of another version at ${target}`);
}

/** Rejects with `contract-changed` for a region that was registered with another name or cap. */
async function missingRegions(
  { regions }: DeploymentTerms,
  client: SettlementClient,
): Promise<readonly RegionDeployment[]> {
  const registered = new Set(await client.readRegions());
  const missing: RegionDeployment[] = [];
  for (const region of regions) {
    if (!registered.has(region.regionId)) missing.push(region);
    else {
      const { name, capWh } = await client.readRegion(region.regionId);
      if (name === region.name && capWh === region.capWh) continue;
      throw changed(`region ${region.regionId} as ${name} with a cap of ${capWh} Wh`);
    }
  }
  return missing;
}

function creation({ name, salt, creationCode }: PlannedContract): Step {
  const data = deterministicCreation(salt, creationCode);
  return { name: `create ${name}`, to: DETERMINISTIC_DEPLOYER, data, byDeployer: true };
}

function registration(
  to: Hex,
  { regionId, name, capWh, startInterval }: RegionDeployment,
): Omit<Step, "byDeployer"> {
  const data = settlementAbi.encode("registerRegion", [regionId, name, capWh, startInterval]);
  return { name: `register region ${regionId} (${name})`, to, data };
}

function plan(contract: {
  readonly name: PlannedContract["name"];
  readonly salt: Hex;
  readonly constructorArguments: Readonly<Record<string, unknown>>;
  readonly encodedArguments: Hex;
  readonly bytecode: Hex;
  readonly isCode: (code: string) => boolean;
}): PlannedContract {
  const { name, salt, constructorArguments, encodedArguments, bytecode, isCode } = contract;
  const creationCode = concat([bytecode, encodedArguments]) as Hex;
  const address = deterministicAddress(salt, creationCode);
  return { name, address, salt, constructorArguments, encodedArguments, creationCode, isCode };
}

function changed(found: string): GridrootError {
  return new GridrootError(
    "contract-changed",
    `the chain has ${found}, which is not what is configured; reset the chain, or choose another label, to deploy anew`,
  );
}
