import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Wallet } from "ethers/wallet";
import pino from "pino";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { GridrootError } from "../../service/errors.ts";
import { noFaults } from "../../service/faults.ts";
import { type Keys, readOrCreateKeys } from "../../service/keys.ts";
import { chainProvider } from "../client.ts";
import { performSteps } from "../deploy.ts";
import { LocalChain } from "../local-chain/local-chain.ts";
import { GOVERNANCE_ROLES } from "./governance.ts";
import { planDeployment } from "./plan.ts";
import { LOCAL_CHAIN_ID } from "./run.ts";
import { parseTerms } from "./terms.ts";

/** Where the local chain of `npm run contracts:node` keeps its blocks, keys and terms. */
export const LOCAL_FOLDER: string = join(".gridroot", "contracts");

const INTERVAL_LENGTH_S = 900;
const FUNDED = ["deployer", "relayer", "customer-1", "customer-2", "customer-3"];
const AUTHORITIES = ["authority-1", "authority-2", "authority-3"];
const BALANCE_WEI = 10n ** 22n;

/** A running local chain with everything deployed. */
export interface LocalNode {
  readonly url: string;
  readonly chainId: number;
  readonly settlement: Hex;
  readonly manager: Hex;
  /** Addresses of the funded accounts and of the authorities; their keys are in `keys.json`, made on this machine. */
  readonly accounts: Readonly<Record<string, Hex>>;
  stop(): Promise<void>;
}

/**
 * Starts a chain on this machine, or continues the folder's, and deploys what it lacks: 2 of 3 authorities, no window,
 * two regions, governed by the deployer.
 */
export async function startLocalNode(options: {
  readonly folder: string;
  readonly port: number;
}): Promise<LocalNode> {
  const { folder, port } = options;
  await mkdir(folder, { recursive: true });
  const keys = await readOrCreateKeys(keysFile(folder), [...FUNDED, ...AUTHORITIES]);
  const chain = new LocalChain(
    {
      dataDir: folder,
      host: "127.0.0.1",
      port,
      chainId: LOCAL_CHAIN_ID,
      accounts: FUNDED.map((name) => ({ privateKey: keyOf(keys, name), balanceWei: BALANCE_WEI })),
    },
    { log: pino({ level: "silent" }), faults: noFaults },
  );
  await chain.start();
  const provider = chainProvider(chain.url, LOCAL_CHAIN_ID);
  try {
    const deployer = new Wallet(keyOf(keys, "deployer"), provider);
    const terms = await readOrCreateTerms(folder, keys);
    const plan = planDeployment(terms, deployer.address.toLowerCase() as Hex);
    await performSteps(plan, { signer: deployer, provider });
    return {
      url: chain.url,
      chainId: LOCAL_CHAIN_ID,
      settlement: plan.settlement.address,
      manager: plan.manager.address,
      accounts: Object.fromEntries([...FUNDED, ...AUTHORITIES].map((name) => [name, addressOf(keys, name)])),
      stop: () => chain.stop(),
    };
  } catch (cause) {
    await chain.stop();
    throw cause;
  } finally {
    provider.destroy();
  }
}

/** The deployer's key of the folder's chain; `undefined` where there is none. */
export async function readLocalKey(folder: string = LOCAL_FOLDER): Promise<Hex | undefined> {
  try {
    return (JSON.parse(await readFile(keysFile(folder), "utf8")) as Keys)["deployer"];
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw cause;
  }
}

// Written down, so that `npm run contracts:deploy -- --network local` finds the same, and so that they can be edited.
async function readOrCreateTerms(folder: string, keys: Keys): Promise<ReturnType<typeof parseTerms>> {
  const file = join(folder, "terms.json");
  const nowS = Math.floor(Date.now() / 1000);
  const startInterval = nowS - (nowS % INTERVAL_LENGTH_S);
  const terms = {
    label: "local",
    intervalLengthS: INTERVAL_LENGTH_S,
    windowS: 0,
    threshold: 2,
    vetoThreshold: 1,
    authorities: AUTHORITIES.map((name) => addressOf(keys, name)),
    governance: Object.fromEntries(
      GOVERNANCE_ROLES.map((role) => [role, { account: addressOf(keys, "deployer"), delayS: 0 }]),
    ),
    regions: ["first", "second"].map((name, at) => ({
      regionId: at + 1,
      name,
      capWh: "1000000000",
      startInterval,
    })),
  };
  try {
    await writeFile(file, `${JSON.stringify(terms, undefined, 2)}\n`, { flag: "wx" });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
  }
  return parseTerms(JSON.parse(await readFile(file, "utf8")), { realChain: false });
}

function keysFile(folder: string): string {
  return join(folder, "keys.json");
}

function keyOf(keys: Keys, name: string): Hex {
  return keys[name] as Hex;
}

function addressOf(keys: Keys, name: string): Hex {
  return new Wallet(keyOf(keys, name)).address.toLowerCase() as Hex;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      folder: { type: "string", default: LOCAL_FOLDER },
      port: { type: "string", default: "8545" },
    },
  });
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new GridrootError("port-invalid", `--port ${values.port} is no port`);
  }
  const node = await startLocalNode({ folder: values.folder, port });
  process.stdout.write(`${JSON.stringify({ ...node, keys: keysFile(values.folder) }, undefined, 2)}\n`);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void node.stop());
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    const isOption = String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS");
    if (!(error instanceof GridrootError) && !isOption) throw error;
    const { code, message } = error as GridrootError;
    process.stderr.write(`${code}: ${message}\n`);
    process.exitCode = 1;
  }
}
