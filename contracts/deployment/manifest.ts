import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { keccak256 } from "ethers/crypto";
import type { Provider } from "ethers/providers";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { GridrootError } from "../../service/errors.ts";
import { accessManagerAbi, settlementAbi } from "../artifact.ts";
import { findFirstLog } from "./first-log.ts";
import type { DeploymentPlan, PlannedContract, Step } from "./plan.ts";
import type { DeploymentTerms } from "./terms.ts";

/** What a block explorer needs to verify a contract's source: solc's version and its standard JSON input. */
export interface CompilerInput {
  readonly version: string;
  readonly input: unknown;
}

/** A contract as it is on chain. */
export interface DeployedContract {
  readonly name: PlannedContract["name"];
  readonly address: Hex;
  /** Of the transaction that created it: the contract has no logs before it. */
  readonly block: number;
  readonly transactionHash: Hex;
  readonly salt: Hex;
  readonly constructorArguments: Readonly<Record<string, unknown>>;
  readonly encodedArguments: Hex;
  /** keccak256 of the code on chain. */
  readonly codeHash: Hex;
  readonly compilerVersion: string;
  /** The file beside the manifest that holds solc's standard JSON input. */
  readonly compilerInput: string;
}

/** `manifest.json`: what was deployed where, from what, and what is left to governance. */
export interface DeploymentManifest {
  readonly network: string;
  readonly chainId: number;
  readonly deployer: Hex;
  readonly terms: DeploymentTerms;
  readonly contracts: readonly DeployedContract[];
  /** Calls that only governance may make. */
  readonly left: readonly { readonly name: string; readonly to: Hex; readonly data: Hex }[];
}

/** What the manifest is made from. */
export interface DeploymentReport {
  readonly network: string;
  readonly chainId: number;
  readonly plan: DeploymentPlan;
  readonly left: readonly Step[];
  /** Where to look for contracts that no manifest tells of; 0 where nobody knows. */
  readonly fromBlock: number;
  readonly compilerInputs: Readonly<Record<PlannedContract["name"], CompilerInput>>;
}

/**
 * Notes the block before the deployment's first transaction: a run that goes on after a crash has to find the contracts'
 * first logs, and public endpoints do not answer for all blocks.
 */
export async function noteStart(folder: string, plan: DeploymentPlan, block: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  await replaceFile(join(folder, "started.json"), { manager: plan.manager.address, block });
}

/** What `noteStart` noted for this deployment; 0 where it noted nothing. */
export async function readStart(folder: string, plan: DeploymentPlan): Promise<number> {
  const started = (await readJson(folder, "started.json")) as { manager: Hex; block: number } | undefined;
  return started?.manager === plan.manager.address ? started.block : 0;
}

/** The manifest in the folder; `undefined` where there is none. */
export async function readManifest(folder: string): Promise<DeploymentManifest | undefined> {
  return (await readJson(folder, "manifest.json")) as DeploymentManifest | undefined;
}

async function readJson(folder: string, name: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(join(folder, name), "utf8"));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new GridrootError("manifest-unreadable", `${folder}/${name} cannot be read`, { cause });
  }
}

/**
 * Writes `manifest.json` and the compiler inputs into the folder. Where it holds a manifest of the same contracts, their
 * code must still be what it was: `contract-changed` otherwise.
 */
export async function writeManifest(
  folder: string,
  report: DeploymentReport,
  provider: Provider,
): Promise<DeploymentManifest> {
  const previous = await readManifest(folder);
  const { network, chainId, plan, left, compilerInputs } = report;
  await mkdir(folder, { recursive: true });
  const contracts: DeployedContract[] = [];
  for (const planned of [plan.manager, plan.settlement]) {
    const { name, address, salt, constructorArguments, encodedArguments } = planned;
    const codeHash = keccak256(await provider.getCode(address)) as Hex;
    const before = previous?.contracts.find((contract) => contract.address === address);
    if (before !== undefined && before.codeHash !== codeHash) {
      throw new GridrootError(
        "contract-changed",
        `${name} at ${address} has other code than the manifest says`,
      );
    }
    // A local chain may have been reset since.
    const isThere =
      before !== undefined && (await provider.getTransactionReceipt(before.transactionHash)) !== null;
    const created = isThere ? before : await findCreation(planned, report.fromBlock, provider);
    const compilerInput = `${name}.input.json`;
    await replaceFile(join(folder, compilerInput), compilerInputs[name].input);
    contracts.push({
      name,
      address,
      block: created.block,
      transactionHash: created.transactionHash,
      salt,
      constructorArguments,
      encodedArguments,
      codeHash,
      compilerVersion: compilerInputs[name].version,
      compilerInput,
    });
  }
  const manifest: DeploymentManifest = {
    network,
    chainId,
    deployer: plan.deployer,
    terms: plan.terms,
    contracts,
    left: left.map(({ name, to, data }) => ({ name, to, data })),
  };
  await replaceFile(join(folder, "manifest.json"), manifest);
  return manifest;
}

/**
 * Where the contract was made, by its constructor's event; it has no logs before `fromBlock`. Rejects with
 * `contract-changed` where there is none.
 */
export async function findCreation(
  { name, address }: PlannedContract,
  fromBlock: number,
  provider: Provider,
): Promise<{ readonly block: number; readonly transactionHash: Hex }> {
  const topics =
    name === "Settlement"
      ? settlementAbi.topics("AuthoritySetChanged")
      : accessManagerAbi.topics("RoleGranted");
  const log = await findFirstLog({ address, topics }, fromBlock, provider);
  if (log === undefined) throw new GridrootError("contract-changed", `no constructor event at ${address}`);
  return { block: log.blockNumber, transactionHash: log.transactionHash as Hex };
}

// A crash leaves the old file or the new one. Amounts are written as decimal text, as the terms have them.
async function replaceFile(file: string, content: unknown): Promise<void> {
  const text = JSON.stringify(
    content,
    (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value),
    2,
  );
  await writeFile(`${file}.new`, `${text}\n`);
  await rename(`${file}.new`, file);
}
