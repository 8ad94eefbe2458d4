import pino from "pino";
import { parseFaultPoint } from "../../service/faults.ts";
import { LocalChain } from "../local-chain/local-chain.ts";
import { CHAIN_ID, testAccounts } from "./chain-fixture.ts";

/**
 * A local chain in a process of its own, for tests that kill it: arguments are its folder and a fault point. Writes its
 * endpoint to standard output once it listens, and a line if its journal fails.
 */
const [dataDir = "", faultPoint = ""] = process.argv.slice(2);
const chain = new LocalChain(
  { dataDir, host: "127.0.0.1", port: 0, chainId: CHAIN_ID, accounts: testAccounts() },
  {
    log: pino({ level: "silent" }),
    faults: parseFaultPoint(faultPoint),
    onFailure: () => process.stdout.write("journal failed\n"),
  },
);
await chain.start();
process.stdout.write(`${chain.url}\n`);
