import type { Provider, Signer } from "ethers/providers";
import type { Hex } from "../domain/settlement/settlement.ts";
import { GridrootError } from "../service/errors.ts";
import { contractError } from "./client.ts";
import { installDeterministicDeployer } from "./deployment/deterministic-deployer.ts";
import { findCreation } from "./deployment/manifest.ts";
import { type DeploymentPlan, type Step, missingSteps, planDeployment } from "./deployment/plan.ts";
import { GOVERNANCE_ROLES, type GovernanceTerms } from "./deployment/governance.ts";
import type { DeploymentTerms, RegionDeployment } from "./deployment/terms.ts";

export type { RegionDeployment } from "./deployment/terms.ts";

/** What a deployment on a chain of one's own consists of: no delays, and one account governs. */
export interface SettlementDeployment {
  /** 1 to 32 addresses, in any order. */
  readonly authorities: readonly Hex[];
  /** How many of them must sign. */
  readonly threshold: number;
  readonly intervalLengthS: number;
  /** Holds every role of governance; has to be the deployer where regions are added later. */
  readonly owner: Hex;
  readonly regions: readonly RegionDeployment[];
  /** How long a record stays open to veto; default 0. */
  readonly windowS?: number;
  /** How many authorities veto; default 1, or 0 where all of them must sign. */
  readonly vetoThreshold?: number;
}

/** What a deployment is done with. */
export interface DeploymentDependencies {
  readonly signer: Signer;
  readonly provider: Provider;
  /** Told before each transaction. */
  readonly onStep?: (step: Step) => void;
  /** The deployment has no logs before it; default 0. */
  readonly fromBlock?: number;
}

/** A transaction that is not mined within this time is left to another run. */
const MINED_WITHIN_MS = 600_000;

/**
 * Deploys the contracts on a local chain and registers the regions. May be repeated after a crash at any point and at
 * each start: what is there is reused, only missing regions are registered. A region keeps the start it was registered
 * with.
 *
 * The address follows from the deployer and the terms. Rejects with `contract-changed` where the deployer deployed
 * other code or other terms before, or a region with another name or cap is there: old records stay bound to the old
 * contract, so only an explicit reset of the chain may replace it; `deploy-failed`; and as `contractError`. `block` is
 * the block of the deployment: the contract has no logs before it.
 */
export async function deploySettlement(
  deployment: SettlementDeployment,
  dependencies: DeploymentDependencies,
): Promise<{ readonly address: Hex; readonly block: number }> {
  const deployer = (await dependencies.signer.getAddress()).toLowerCase() as Hex;
  const plan = planDeployment(termsOf(deployment), deployer);
  const skipped = await performSteps(plan, dependencies);
  if (skipped.length > 0) {
    throw new GridrootError(
      "deploy-failed",
      `only the owner may ${skipped.map(({ name }) => name).join(", ")}`,
    );
  }
  const { provider, fromBlock = 0 } = dependencies;
  const { block } = await findCreation(plan.settlement, fromBlock, provider);
  return { address: plan.settlement.address, block };
}

/**
 * Sends what is missing, one transaction after the other, each mined before the next; then verifies that nothing is.
 * Resolves with the steps that only governance may send. Rejects as `missingSteps`, with `deploy-failed`, and as
 * `contractError`.
 */
export async function performSteps(
  plan: DeploymentPlan,
  { signer, provider, onStep, fromBlock }: DeploymentDependencies,
): Promise<readonly Step[]> {
  try {
    for (const step of await missingSteps(plan, provider, fromBlock)) {
      if (!step.byDeployer) continue;
      onStep?.(step);
      await perform(step, signer, provider);
    }
    const left = await missingSteps(plan, provider, fromBlock);
    const undone = left.find((step) => step.byDeployer);
    if (undone !== undefined) throw new GridrootError("deploy-failed", `${undone.name}: without effect`);
    return left;
  } catch (cause) {
    throw contractError(cause);
  }
}

async function perform({ name, to, data }: Step, signer: Signer, provider: Provider): Promise<void> {
  try {
    if (data === "0x") await installDeterministicDeployer(signer, provider);
    else await (await signer.sendTransaction({ to, data })).wait(1, MINED_WITHIN_MS);
  } catch (cause) {
    const { code, message, retryable } = contractError(cause);
    throw new GridrootError(code, `${name}: ${message}`, { cause, retryable });
  }
}

function termsOf(deployment: SettlementDeployment): DeploymentTerms {
  const { authorities, threshold, intervalLengthS, owner, regions, windowS = 0 } = deployment;
  const governor = { account: owner, delayS: 0 };
  return {
    label: "local",
    intervalLengthS,
    windowS,
    threshold,
    vetoThreshold: deployment.vetoThreshold ?? Math.min(1, authorities.length - threshold),
    authorities: authorities.map((authority) => authority.toLowerCase() as Hex).sort(),
    governance: Object.fromEntries(
      GOVERNANCE_ROLES.map((role) => [role, governor]),
    ) as unknown as GovernanceTerms,
    regions,
  };
}
