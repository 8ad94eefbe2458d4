import { readdirSync } from "node:fs";
import { createRequire } from "node:module";

import { configVariable, defineConfig, overrideTask, task } from "hardhat/config";

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
    // More runs would inline the code beyond the 24,576 bytes that EIP-170 allows.
    optimizer: { enabled: true, runs: 200 },
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

const deploy = task("deploy", "Deploys what is missing on --network and writes a manifest")
  .addOption({ name: "terms", description: "JSON file of the terms", defaultValue: "" })
  .addFlag({ name: "execute", description: "Send transactions; without it a real chain is only looked at" })
  .addOption({
    name: "folder",
    description: "Of the manifest; contracts/deployments/<network>, or the local chain's, otherwise",
    defaultValue: "",
  })
  .addOption({ name: "keystore", description: "Encrypted JSON file of the deployer's key", defaultValue: "" })
  .addOption({
    name: "passwordFile",
    description: "File of its password, which is asked for otherwise",
    defaultValue: "",
  })
  .setAction(() => import("./contracts/deployment/task.ts"))
  .build();

// Variables are read from the environment when a command needs them.
const accounts = [configVariable("DEPLOYER_PRIVATE_KEY", { default: "" })];

// `npm run contracts:test:full` takes its time; `npm test` does not.
const isFull = process.env["CONTRACT_TESTS"] === "full";

export default defineConfig({
  tasks: [testReleasedCode, deploy],
  networks: {
    local: {
      type: "http",
      chainId: 31_337,
      url: configVariable("LOCAL_RPC_URL", { default: "http://127.0.0.1:8545" }),
      accounts,
    },
    amoy: { type: "http", chainId: 80_002, url: configVariable("AMOY_RPC_URL"), accounts },
    polygon: { type: "http", chainId: 137, url: configVariable("POLYGON_RPC_URL"), accounts },
    arbitrumSepolia: {
      type: "http",
      chainId: 421_614,
      url: configVariable("ARBITRUM_SEPOLIA_RPC_URL"),
      accounts,
    },
    arbitrum: { type: "http", chainId: 42_161, url: configVariable("ARBITRUM_RPC_URL"), accounts },
  },
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
      fuzz: { runs: isFull ? 10_000 : 64, seed: "0x67726964726f6f74" },
      invariant: { runs: isFull ? 256 : 16, depth: isFull ? 500 : 32, failOnRevert: true },
      fsPermissions: { readDirectory: ["artifacts"] },
    },
  },
});
