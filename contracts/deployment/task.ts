import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";
import type { ResolvedConfigurationVariable } from "hardhat/types/config";
import type { Wallet } from "ethers/wallet";
import { GridrootError } from "../../service/errors.ts";
import { accessManagerBytecode, settlementBytecode } from "../artifact.ts";
import { chainProvider } from "../client.ts";
import { readArtifact } from "../generate.ts";
import { readDeployerKey } from "./keys.ts";
import { LOCAL_FOLDER, readLocalKey } from "./local.ts";
import type { CompilerInput } from "./manifest.ts";
import { runDeployment } from "./run.ts";

/** What `hardhat deploy` was asked for; an empty text is an option that was not given. */
interface DeployArguments {
  readonly terms: string;
  readonly execute: boolean;
  readonly folder: string;
  readonly keystore: string;
  readonly passwordFile: string;
}

/** The action of `npm run contracts:deploy`. A refusal is told in its own words, without a trace. */
export default async function deploy(
  options: DeployArguments,
  hre: HardhatRuntimeEnvironment,
): Promise<void> {
  try {
    await deployTo(options, hre);
  } catch (error) {
    if (!(error instanceof GridrootError)) throw error;
    process.stderr.write(`${error.code}: ${error.message}\n`);
    process.exitCode = 1;
  }
}

async function deployTo(
  { terms, execute, folder: givenFolder, keystore, passwordFile }: DeployArguments,
  hre: HardhatRuntimeEnvironment,
): Promise<void> {
  const network = hre.globalOptions.network ?? "local";
  const settings = hre.config.networks[network];
  if (settings?.type !== "http" || settings.chainId === undefined) {
    throw new GridrootError("network-unknown", `hardhat.config.ts has no network ${network} to deploy to`);
  }
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  const isLocal = network === "local";
  const folder = givenFolder || (isLocal ? LOCAL_FOLDER : join("contracts", "deployments", network));
  const file = terms || (isLocal ? join(folder, "terms.json") : join("config", "deployment.json"));
  const key = Array.isArray(settings.accounts) ? settings.accounts[0] : undefined;
  const askPassword = async () =>
    passwordFile
      ? (await readFile(passwordFile, "utf8")).replace(/\r?\n$/, "")
      : hre.interruptions.requestSecretInput("deploy", `Password of ${keystore}`);
  const wallet = await deployerWallet({
    localFolder: isLocal ? folder : undefined,
    key,
    keystore,
    askPassword,
  });
  const provider = chainProvider(await settings.url.getUrl(), settings.chainId, { timeoutMs: 60_000 });
  try {
    const run = { network, chainId: settings.chainId, terms: await readJson(file), execute, folder };
    const compilerInputs = async () => {
      await hre.tasks.getTask("build").run({ noTests: true, quiet: true });
      return {
        Settlement: await compilerInput("Settlement", settlementBytecode),
        AccessManager: await compilerInput("AccessManager", accessManagerBytecode),
      };
    };
    await runDeployment(run, { provider, wallet, compilerInputs, say });
  } finally {
    provider.destroy();
  }
}

async function deployerWallet(source: {
  readonly localFolder: string | undefined;
  readonly key: ResolvedConfigurationVariable | undefined;
  readonly keystore: string;
  readonly askPassword: () => Promise<string>;
}): Promise<Wallet> {
  if (source.keystore) {
    return readDeployerKey({ keystore: { file: source.keystore, password: source.askPassword } });
  }
  const { localFolder } = source;
  const given = await source.key?.get();
  if (given) return readDeployerKey({ privateKey: given });
  if (localFolder === undefined) return readDeployerKey({});
  const privateKey = await readLocalKey(localFolder);
  if (privateKey !== undefined) return readDeployerKey({ privateKey });
  const hint = "npm run contracts:node starts a local chain, and makes a key for it";
  throw new GridrootError("key-missing", `${localFolder} has no key: ${hint}`);
}

async function compilerInput(name: "Settlement" | "AccessManager", deployed: string): Promise<CompilerInput> {
  const { artifact, buildInfo } = await readArtifact(name);
  if (artifact.bytecode !== deployed) {
    throw new GridrootError("artifact-stale", `generated/${name}.json is stale: run npm run contracts:build`);
  }
  return { version: buildInfo.solcLongVersion, input: buildInfo.input };
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    throw new GridrootError("terms-unreadable", `${file} cannot be read as JSON`, { cause });
  }
}
