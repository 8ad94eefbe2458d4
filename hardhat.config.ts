import { readdirSync } from "node:fs";
import { createRequire } from "node:module";

import { defineConfig, overrideTask } from "hardhat/config";

// Building and testing contracts must not need a network or a terminal, nor tell anybody about it.
process.env["HARDHAT_DISABLE_TELEMETRY"] = "true";

const compiler = {
  version: "0.8.30",
  path: createRequire(import.meta.url).resolve("solc/soljson.js"),
};

const release = {
  ...compiler,
  settings: {
    viaIR: true,
    optimizer: { enabled: true, runs: 10_000 },
    evmVersion: "prague",
    metadata: { bytecodeHash: "none" },
  },
};

// Tests deploy the released code by its artifact; optimizing their own would take most of a minute.
const tests = { ...compiler, settings: { optimizer: { enabled: false }, evmVersion: "prague" } };
const testFiles = readdirSync(new URL("./contracts/test/", import.meta.url)).filter((file) =>
  file.endsWith(".sol"),
);

// Asked for one test file, Hardhat compiles what that file imports: not the code that it deploys.
const testReleasedCode = overrideTask(["test", "solidity"])
  .setInlineAction(async (options, { tasks }, runSuper) => {
    await tasks.getTask("build").run({ noTests: true, quiet: true });
    return runSuper(options);
  })
  .build();

export default defineConfig({
  tasks: [testReleasedCode],
  solidity: {
    compilers: [release],
    overrides: Object.fromEntries(testFiles.map((file) => [`contracts/test/${file}`, tests])),
    // Governance of a deployment: who may call what, after which delay.
    npmFilesToBuild: ["@openzeppelin/contracts/access/manager/AccessManager.sol"],
  },
  paths: {
    sources: "contracts/src",
    tests: { solidity: "contracts/test" },
    artifacts: "artifacts",
    cache: "cache",
  },
  test: {
    solidity: {
      fuzz: { runs: 64, seed: "0x67726964726f6f74" },
      invariant: { runs: 16, depth: 32, failOnRevert: true },
      fsPermissions: { readDirectory: ["artifacts"] },
    },
  },
});
