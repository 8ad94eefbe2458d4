import { createRequire } from "node:module";

import { defineConfig } from "hardhat/config";

const require = createRequire(import.meta.url);

// Building and testing contracts must not need a network or a terminal, nor tell anybody about it.
process.env["HARDHAT_DISABLE_TELEMETRY"] = "true";

export default defineConfig({
  solidity: {
    version: "0.8.30",
    path: require.resolve("solc/soljson.js"),
    settings: {
      viaIR: true,
      optimizer: { enabled: true, runs: 10_000 },
      evmVersion: "prague",
      metadata: { bytecodeHash: "none" },
    },
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
    },
  },
});
