import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { chainProvider, settlementClient } from "../../contracts/client.ts";
import { LocalChain } from "../../contracts/local-chain/local-chain.ts";
import type { SettlementDomain } from "../../domain/settlement/settlement.ts";
import { pino } from "pino";
import { openPool } from "../../service/database.ts";
import { parseFaultPoint } from "../../service/faults.ts";
import type { Service } from "../../service/lifecycle.ts";
import { testRelayer } from "./attested-ledger.ts";
import { TEST_ACCOUNTS, TEST_CHAIN_ID } from "./test-chain.ts";

/** What one process of a crash test runs. `fault` is `point:occurrence`, or empty. */
export type ProcessTask =
  | {
      readonly run: "relayer";
      readonly fault: string;
      readonly ledgerUrl: string;
      readonly chainUrl: string;
      readonly domain: SettlementDomain;
      readonly confirmations: number;
    }
  | {
      readonly run: "authority";
      readonly fault: string;
      readonly storeUrl: string;
      readonly apiUrl: string;
      readonly chainUrl: string;
      readonly domain: SettlementDomain;
    }
  | { readonly run: "chain"; readonly fault: string; readonly dataDir: string; readonly port: number };

/** Runs a task in a process of its own; resolves once its service has started. A chain tells its address. */
export async function startProcess(task: ProcessTask): Promise<{ child: ChildProcess; url: string }> {
  const child = fork(import.meta.filename, [JSON.stringify(task)], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const died = once(child, "exit").then(() => "");
  const started = once(child, "message").then(([url]) => String(url));
  // A fault point may come before the start is told.
  const url = await Promise.race([started, died]);
  return { child, url };
}

/** Resolves with the signal that ended the process, or with `undefined` where it is still alive after 20 s; then ends it. */
export async function untilDead(child: ChildProcess): Promise<NodeJS.Signals | null | undefined> {
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const alive = AbortSignal.timeout(20_000);
  if (!hasEnded()) await once(child, "exit", { signal: alive }).catch(() => {});
  if (hasEnded()) return child.signalCode;
  child.kill("SIGKILL");
  return undefined;
}

async function serviceOf(task: ProcessTask): Promise<Service> {
  const faults = parseFaultPoint(task.fault);
  if (task.run === "chain") {
    const account = { chainId: TEST_CHAIN_ID, accounts: TEST_ACCOUNTS, host: "127.0.0.1" };
    return new LocalChain({ ...account, ...task }, { log: pino({ level: "silent" }), faults });
  }
  const provider = chainProvider(task.chainUrl, task.domain.chainId);
  const client = settlementClient(task.domain.verifyingContract, provider);
  const chain = { provider, client, domain: task.domain };
  if (task.run === "authority") {
    // Loaded here, because the other processes have no use for an HTTP server and start twice as fast without.
    const { openStore, testAuthority } = await import("./test-authority.ts");
    return testAuthority(chain, task.apiUrl, openStore(task.storeUrl), {}, { faults });
  }
  const options = { connectionString: task.ledgerUrl, applicationName: "relayer", maxConnections: 4 };
  const pool = openPool({ ...options, schema: "ledger" }, () => {});
  const { confirmations } = task;
  return testRelayer(chain, { pool, url: task.ledgerUrl }, { confirmations, pollMs: 20 }, { faults });
}

if (import.meta.main) {
  const service = await serviceOf(JSON.parse(process.argv[2]!) as ProcessTask);
  process.once("disconnect", () => process.exit());
  await service.start();
  process.send?.(service instanceof LocalChain ? service.url : "");
}
