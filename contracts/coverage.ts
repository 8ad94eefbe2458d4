import { spawnSync } from "node:child_process";
import { cp, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { GridrootError } from "../service/errors.ts";
import { writeSolcBinary } from "./solc-binary.ts";

/**
 * `npm run contracts:coverage`: the lines, statements and branches of `contracts/src` that the Solidity tests reach,
 * those of inline assembly included; fails where they do not reach all. Hardhat's own report has no branches, so Forge,
 * a second runner of the same tests, is asked. It is fetched from npm the first time.
 */

const FORGE = "@foundry-rs/forge-linux-amd64@1.7.1";
const CONTRACTS = fileURLToPath(new URL(".", import.meta.url));
const MODULES = fileURLToPath(new URL("../node_modules", import.meta.url));

/** Coverage is counted without the optimizer, whose code has no lines. */
function configuration(solc: string): string {
  return `[profile.default]
src = "src"
test = "test"
libs = ["node_modules"]
remappings = ["@openzeppelin/=node_modules/@openzeppelin/"]
solc = "${solc}"
evm_version = "prague"
offline = true
optimizer = false
gas_limit = "18446744073709551615"
memory_limit = 4294967296
[fuzz]
runs = 64
seed = "0x67726964726f6f74"
[invariant]
runs = 8
depth = 32
fail_on_revert = true
`;
}

/** The tests deploy the manager by its artifact, so that nothing of theirs imports it. */
const MANAGER = `// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
`;

async function layOut(folder: string): Promise<void> {
  await cp(join(CONTRACTS, "src"), join(folder, "src"), { recursive: true });
  for (const file of await readdir(join(CONTRACTS, "test"))) {
    if (file.endsWith(".sol")) await cp(join(CONTRACTS, "test", file), join(folder, "test", file));
  }
  await writeFile(join(folder, "test/Manager.sol"), MANAGER);
  await symlink(MODULES, join(folder, "node_modules"));
  await writeFile(join(folder, "foundry.toml"), configuration(await writeSolcBinary(folder)));
}

/** `file:line` of every line and branch that LCOV says was not reached. */
function notReached(lcov: string): readonly string[] {
  const places = new Set<string>();
  let file = "";
  for (const line of lcov.split("\n")) {
    if (line.startsWith("SF:")) file = line.slice(3);
    const counted = /^(?:DA|BRDA):(\d+),.*?([^,]+)$/.exec(line);
    if (counted !== null && (counted[2] === "0" || counted[2] === "-")) places.add(`${file}:${counted[1]}`);
  }
  return [...places];
}

async function measure(): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-coverage-"));
  try {
    await layOut(folder);
    const reports = [
      "--report",
      "summary",
      "--report",
      "lcov",
      "--no-match-coverage",
      "(test|node_modules)/",
    ];
    const { error, status } = spawnSync("npx", ["--yes", FORGE, "coverage", ...reports], {
      cwd: folder,
      stdio: "inherit",
    });
    if (error !== undefined) throw new GridrootError("forge-missing", "npx does not start", { cause: error });
    if (status !== 0) return status ?? 1;
    const missed = notReached(await readFile(join(folder, "lcov.info"), "utf8"));
    for (const place of missed) process.stderr.write(`not reached: ${place}\n`);
    return missed.length === 0 ? 0 : 1;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) process.exitCode = await measure();
