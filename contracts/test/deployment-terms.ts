import { keccak256 } from "ethers/crypto";
import { testWallet } from "./chain-fixture.ts";

/** The chain id of a network that counts as a real one. */
export const AMOY = 80_002;

export const deployer = testWallet(1);

/** An address that nobody would take for a placeholder. */
export const someone = (n: number): string => `0x${keccak256(testWallet(n).address).slice(26)}`;

const holder = (n: number, delayS = 0) => ({ account: someone(n), delayS });

/** Terms as a file has them, good for a real chain. */
export const TERMS = {
  label: "test-1",
  intervalLengthS: 900,
  windowS: 129_600,
  threshold: 2,
  vetoThreshold: 1,
  authorities: [11, 12, 13].map(someone),
  governance: {
    admin: holder(21, 604_800),
    authoritySet: holder(22),
    caps: holder(23, 3_600),
    pause: holder(24),
    rulings: holder(25),
  },
  regions: [
    { regionId: 1, name: "bangkok", capWh: "5000000000", startInterval: 900_000 },
    { regionId: 2, name: "northern", capWh: "7000000000", startInterval: 900_000 },
  ],
};
