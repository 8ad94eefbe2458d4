import { chmod, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { argv, execPath } from "node:process";
import { fileURLToPath } from "node:url";

interface Compiler {
  version(): string;
  compile(input: string): string;
}

/**
 * Writes an executable `solc` into the folder and returns its path. Slither and Forge start a binary; this file plays it,
 * with npm's solc behind it, so that they compile with what Hardhat compiles with.
 */
export async function writeSolcBinary(folder: string): Promise<string> {
  const path = join(folder, "solc");
  await writeFile(path, `#!/bin/sh\nexec "${execPath}" "${fileURLToPath(import.meta.url)}" "$@"\n`);
  await chmod(path, 0o755);
  return path;
}

/** What is asked of the binary: its version, or standard JSON. */
async function compile(args: readonly string[]): Promise<void> {
  const solc = createRequire(import.meta.url)("solc") as Compiler;
  if (args.includes("--version")) process.stdout.write(`solc\nVersion: ${solc.version()}\n`);
  else process.stdout.write(solc.compile(await readFile("/dev/stdin", "utf8")));
}

if (import.meta.main) await compile(argv.slice(2));
