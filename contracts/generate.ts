import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";

/**
 * Writes `contracts/generated/Settlement.json` from what `hardhat build` left in `artifacts/`, so that nothing else
 * of Gridroot needs a compiler. With `--check` it writes nothing and fails where the committed file differs.
 */

const SOURCES = new URL("./src/", import.meta.url);
const ARTIFACT = new URL("../artifacts/contracts/src/Settlement.sol/Settlement.json", import.meta.url);
const BUILD_INFO = new URL("../artifacts/build-info/", import.meta.url);
/** The committed file. */
export const GENERATED = new URL("./generated/Settlement.json", import.meta.url);

interface Artifact {
  readonly abi: readonly unknown[];
  readonly bytecode: string;
  readonly deployedBytecode: string;
  readonly immutableReferences: Readonly<Record<string, readonly { start: number; length: number }[]>>;
  readonly buildInfoId: string;
}

interface BuildInfo {
  readonly solcLongVersion: string;
  readonly input: { readonly settings: Readonly<Record<string, unknown>> };
}

/** SHA-256 over the names and texts of all Solidity sources, in the order of their names. */
export async function hashSources(): Promise<string> {
  const hash = createHash("sha256");
  const names = (await readdir(SOURCES)).filter((name) => name.endsWith(".sol")).sort();
  for (const name of names) hash.update(`${name}\0${await readFile(new URL(name, SOURCES), "utf8")}\0`);
  return hash.digest("hex");
}

/** The text of the generated file for the current artifact. Rejects where the sources were not built. */
async function generate(): Promise<string> {
  const artifact = JSON.parse(await readFile(ARTIFACT, "utf8")) as Artifact;
  const buildInfo = JSON.parse(
    await readFile(new URL(`${artifact.buildInfoId}.json`, BUILD_INFO), "utf8"),
  ) as BuildInfo;
  const { viaIR, optimizer, evmVersion, metadata } = buildInfo.input.settings;
  const generated = {
    contractName: "Settlement",
    sourceHash: await hashSources(),
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
  const text = await generate();
  if (!process.argv.includes("--check")) await writeFile(GENERATED, text);
  else if (text !== (await readFile(GENERATED, "utf8"))) {
    process.stderr.write("contracts/generated/Settlement.json is stale: run `npm run contracts:build`\n");
    process.exitCode = 1;
  }
}
