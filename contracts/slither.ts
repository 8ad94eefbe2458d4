import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { GridrootError } from "../service/errors.ts";
import { readArtifact } from "./generate.ts";
import { writeSolcBinary } from "./solc-binary.ts";

/**
 * `npm run contracts:slither`: Slither (PyPI `slither-analyzer`, on the PATH) over what `npm run contracts:build` compiled;
 * any finding fails. Slither wants a solc binary and the sources as files, so the compiler's input is laid out in a
 * folder. Nothing is asked of a network.
 */

/** What says nothing here, and why: docs/contracts.md. */
const EXCLUDED_DETECTORS = ["timestamp", "incorrect-equality", "divide-before-multiply"];

async function analyse(): Promise<number> {
  const { buildInfo } = await readArtifact("Settlement");
  const outputs = ["abi", "metadata", "devdoc", "userdoc", "evm.bytecode", "evm.deployedBytecode"];
  const input = {
    ...buildInfo.input,
    settings: {
      ...buildInfo.input.settings,
      outputSelection: { "*": { "*": [...outputs, "evm.methodIdentifiers"], "": ["ast"] } },
    },
  };
  const folder = await mkdtemp(join(tmpdir(), "gridroot-slither-"));
  try {
    for (const [name, { content }] of Object.entries(buildInfo.input.sources)) {
      await mkdir(join(folder, dirname(name)), { recursive: true });
      await writeFile(join(folder, name), content);
    }
    await writeFile(join(folder, "input.json"), JSON.stringify(input));
    const solc = await writeSolcBinary(folder);
    const options = [
      ["--compile-force-framework", "solc-json", "--solc", solc, "--filter-paths", "npm/"],
      ["--exclude-informational", "--exclude-optimization", "--exclude", EXCLUDED_DETECTORS.join()],
    ].flat();
    const { error, status } = spawnSync("slither", ["input.json", ...options], {
      cwd: folder,
      stdio: "inherit",
    });
    if (error !== undefined) {
      throw new GridrootError("slither-missing", "install it: pip install slither-analyzer==0.11.6", {
        cause: error,
      });
    }
    return status ?? 1;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) process.exitCode = await analyse();
