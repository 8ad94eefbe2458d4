import type { JsonRpcProvider } from "ethers/providers";
import type { Wallet } from "ethers/wallet";
import { formatEther } from "ethers/utils";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { GridrootError } from "../../service/errors.ts";
import { contractError, isEthersError } from "../contract-errors.ts";
import { performSteps } from "../deploy.ts";
import { hasDeterministicDeployer } from "./deterministic-deployer.ts";
import {
  type CompilerInput,
  type DeploymentManifest,
  noteStart,
  readManifest,
  readStart,
  writeManifest,
} from "./manifest.ts";
import { type DeploymentPlan, type PlannedContract, missingSteps, planDeployment } from "./plan.ts";
import { parseTerms } from "./terms.ts";

/** The chain id of chains that live on one machine: nothing on them is worth anything. */
export const LOCAL_CHAIN_ID = 31_337;

export interface DeploymentRun {
  readonly network: string;
  /** What the endpoint's chain must be. */
  readonly chainId: number;
  /** The terms as parsed from their file. */
  readonly terms: unknown;
  /** Sends transactions; without it a real chain is only looked at. A local chain needs no leave. */
  readonly execute: boolean;
  /** Where the manifest is written. */
  readonly folder: string;
}

export interface DeploymentRunDependencies {
  readonly provider: JsonRpcProvider;
  readonly wallet: Wallet;
  readonly compilerInputs: () => Promise<Readonly<Record<PlannedContract["name"], CompilerInput>>>;
  /** Where the report goes, a line at a time. */
  readonly say: (line: string) => void;
}

/**
 * Deploys what is missing and writes the manifest, or says what it would do. May be repeated after a crash at any point:
 * what is there is verified and kept. Resolves with the manifest; `undefined` after a dry run.
 *
 * Rejects with `terms-invalid`, with `wrong-chain` where the endpoint serves another chain, with
 * `deterministic-deployer-missing` on a real chain without it, with `contract-changed` where the manifest or the chain
 * tells of other contracts of this label, with `transactions-pending` where a former run's are not mined, and as
 * `performSteps` and `contractError`.
 */
export async function runDeployment(
  run: DeploymentRun,
  dependencies: DeploymentRunDependencies,
): Promise<DeploymentManifest | undefined> {
  try {
    return await deployMissing(run, dependencies);
  } catch (cause) {
    throw isEthersError(cause) ? contractError(cause) : cause;
  }
}

async function deployMissing(
  run: DeploymentRun,
  { provider, wallet, compilerInputs, say }: DeploymentRunDependencies,
): Promise<DeploymentManifest | undefined> {
  const { network, chainId, folder } = run;
  const realChain = chainId !== LOCAL_CHAIN_ID;
  const terms = parseTerms(run.terms, { realChain });
  const served = BigInt((await provider.send("eth_chainId", [])) as string);
  if (served !== BigInt(chainId)) {
    throw new GridrootError(
      "wrong-chain",
      `${network} is chain ${chainId}, but the endpoint serves ${served}`,
    );
  }
  if (realChain && !(await hasDeterministicDeployer(provider))) {
    throw new GridrootError("deterministic-deployer-missing", `${network} lacks the deterministic deployer`);
  }
  const plan = planDeployment(terms, wallet.address.toLowerCase() as Hex);
  await requireSameContracts(folder, plan);
  const started = await readStart(folder, plan);
  const steps = await missingSteps(plan, provider, started);
  const balanceWei = await provider.getBalance(wallet.address);
  say(`${network}, chain ${chainId}; deployer ${plan.deployer} has ${formatEther(balanceWei)}`);
  for (const { name, address } of [plan.manager, plan.settlement]) say(`${name} at ${address}`);
  for (const { name, byDeployer } of steps) say(`${byDeployer ? "missing" : "left to governance"}: ${name}`);
  if (steps.length === 0) say("nothing is missing");
  // Before anything is sent: code that the sources do not give any more cannot be verified by anybody.
  const inputs = await compilerInputs();
  if (realChain && !run.execute) {
    say("dry run: nothing was sent; --execute sends it");
    return undefined;
  }
  if (steps.some((step) => step.byDeployer)) await requireNothingPending(wallet.address, provider);
  const isNew = steps.some(({ name }) => name === "create AccessManager");
  const fromBlock = isNew ? await provider.getBlockNumber() : started;
  if (isNew) await noteStart(folder, plan, fromBlock);
  const left = await performSteps(plan, {
    signer: wallet.connect(provider),
    provider,
    fromBlock,
    onStep: ({ name }) => say(`sending: ${name}`),
  });
  const report = { network, chainId, plan, left, fromBlock, compilerInputs: inputs };
  const manifest = await writeManifest(folder, report, provider);
  say(`${folder}/manifest.json written`);
  return manifest;
}

// What was sent before a crash would be sent once more, under the next nonce, and revert.
async function requireNothingPending(deployer: string, provider: JsonRpcProvider): Promise<void> {
  const mined = await provider.getTransactionCount(deployer, "latest");
  const pending = (await provider.getTransactionCount(deployer, "pending")) - mined;
  if (pending <= 0) return;
  throw new GridrootError(
    "transactions-pending",
    `${pending} of the deployer's transactions are not mined yet; repeat the deployment when they are`,
    { retryable: true },
  );
}

async function requireSameContracts(folder: string, plan: DeploymentPlan): Promise<void> {
  const manifest = await readManifest(folder);
  if (manifest === undefined || manifest.terms.label !== plan.terms.label) return;
  for (const { name, address } of [plan.manager, plan.settlement]) {
    const known = manifest.contracts.find((contract) => contract.name === name);
    if (known === undefined || known.address === address) continue;
    throw new GridrootError(
      "contract-changed",
      `${folder}/manifest.json has ${name} at ${known.address}, but code, terms or deployer now give ${address}; another label deploys anew`,
    );
  }
}
