import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { type NamedAbi, typesOf } from "./abi-types.ts";

/**
 * Writes `contracts/generated/*` from what `hardhat build` left in `artifacts/`, so that nothing else of Gridroot
 * needs a compiler. With `--check` it writes nothing and fails where a committed file differs.
 */

const SOURCES = new URL("./src/", import.meta.url);
const ARTIFACTS = new URL("../artifacts/", import.meta.url);
/** What is deployed: the contract, and the manager of its governance as OpenZeppelin wrote it. */
const CONTRACTS = {
  Settlement: "contracts/src/Settlement.sol/Settlement.json",
  AccessManager: "@openzeppelin/contracts/access/manager/AccessManager.sol/AccessManager.json",
} as const;
export type ContractName = keyof typeof CONTRACTS;

export interface Artifact {
  readonly abi: readonly unknown[];
  readonly bytecode: string;
  readonly deployedBytecode: string;
  readonly immutableReferences: Readonly<Record<string, readonly { start: number; length: number }[]>>;
  readonly buildInfoId: string;
}

export interface BuildInfo {
  readonly solcLongVersion: string;
  /** solc's standard JSON input. */
  readonly input: {
    readonly settings: Readonly<Record<string, unknown>>;
    readonly sources: Readonly<Record<string, { readonly content: string }>>;
  };
}

/** SHA-256 over the names and texts of all Solidity sources, in the order of their names. */
export async function hashSources(): Promise<string> {
  const hash = createHash("sha256");
  const names = (await readdir(SOURCES)).filter((name) => name.endsWith(".sol")).sort();
  for (const name of names) hash.update(`${name}\0${await readFile(new URL(name, SOURCES), "utf8")}\0`);
  return hash.digest("hex");
}

/** What the compiler was given and what it made of it. Rejects where the sources were not built. */
export async function readArtifact(
  name: ContractName,
): Promise<{ artifact: Artifact; buildInfo: BuildInfo }> {
  const artifact = JSON.parse(await readFile(new URL(CONTRACTS[name], ARTIFACTS), "utf8")) as Artifact;
  const file = new URL(`build-info/${artifact.buildInfoId}.json`, ARTIFACTS);
  return { artifact, buildInfo: JSON.parse(await readFile(file, "utf8")) as BuildInfo };
}

/** The text of the generated file for what was compiled. */
async function generate(
  name: ContractName,
  { artifact, buildInfo }: { readonly artifact: Artifact; readonly buildInfo: BuildInfo },
): Promise<string> {
  const { viaIR, optimizer, evmVersion, metadata } = buildInfo.input.settings;
  const generated = {
    contractName: name,
    ...(name === "Settlement" ? { sourceHash: await hashSources() } : {}),
    compiler: { version: buildInfo.solcLongVersion, settings: { viaIR, optimizer, evmVersion, metadata } },
    immutables: Object.values(artifact.immutableReferences)
      .flat()
      .map(({ start, length }) => ({ start, length }))
      .sort((a, b) => a.start - b.start),
    bytecode: artifact.bytecode,
    deployedBytecode: artifact.deployedBytecode,
    abi: artifact.abi,
  };
  return `${JSON.stringify(generated, undefined, 1)}\n`;
}

if (import.meta.main) {
  const texts = new Map<string, string>();
  const contracts: NamedAbi[] = [];
  for (const name of Object.keys(CONTRACTS) as ContractName[]) {
    const compiled = await readArtifact(name);
    texts.set(`${name}.json`, await generate(name, compiled));
    contracts.push({ name, abi: compiled.artifact.abi });
  }
  texts.set("abi.ts", typesOf(contracts));
  for (const [name, text] of texts) {
    const file = new URL(`./generated/${name}`, import.meta.url);
    if (!process.argv.includes("--check")) await writeFile(file, text);
    else if (text !== (await readFile(file, "utf8"))) {
      process.stderr.write(`contracts/generated/${name} is stale: run \`npm run contracts:build\`\n`);
      process.exitCode = 1;
    }
  }
}
