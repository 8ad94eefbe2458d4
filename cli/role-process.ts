import { randomUUID } from "node:crypto";
import type { JsonRpcProvider } from "ethers/providers";
import type { Logger } from "pino";
import { collectDefaultMetrics, Registry } from "prom-client";
import { chainProvider, settlementClient, type SettlementClient } from "../contracts/client.ts";
import type { Hex, SettlementDomain } from "../domain/settlement/settlement.ts";
import type { BatchKey } from "../ledger/batches.ts";
import type { ChildRole } from "../service/child-process.ts";
import { type Clock, SettableClock, systemClock } from "../service/clock.ts";
import type { EventLog } from "../event-log/event-log.ts";
import type { Settings } from "../service/configuration.ts";
import type { Pool } from "../service/database.ts";
import { GridrootError } from "../service/errors.ts";
import { type FaultPoints, parseFaultPoint } from "../service/faults.ts";
import { openLog } from "../service/logging.ts";
import type { TimeSeries } from "../time-series/time-series.ts";
import { poolSize } from "./connections.ts";
import type { Context } from "./context.ts";
import type { Role } from "./roles.ts";
import { OpenStores, type Stores } from "./stores.ts";

/** The chain as a role sees it. */
export interface ChainAccess {
  readonly provider: JsonRpcProvider;
  readonly client: SettlementClient;
  readonly domain: SettlementDomain;
}

/** A settlement as it moves on the chain. */
export interface SettlementSeen extends BatchKey {
  readonly transactionHash: Hex;
}

/** Who wants to know what the stages of this process do: the lines that `start` prints. */
export interface Observers {
  onMined?(settlement: SettlementSeen): void;
}

/** What a process has besides its context. */
export interface RoleProcessParts {
  /** What runs in it, for the size of its pool; by default nothing, as in a preparation. */
  readonly roles?: readonly Role[];
  readonly observers?: Observers;
  /** Processes whose metrics and state are shown with this one's. */
  readonly children?: () => readonly ChildRole[];
  /** By default the log that the settings describe. */
  readonly log?: Logger;
  /** Ends the process where only a new start mends what failed. By default it lives on. */
  readonly fail?: (cause: GridrootError) => void;
}

/** What the roles of one process share. Stores and chain are opened by the first role that needs them. */
export class RoleProcess {
  readonly context: Context;
  readonly settings: Settings;
  readonly log: Logger;
  readonly metrics = new Registry();
  readonly faults: FaultPoints;
  /** Names this process among others of the same role. */
  readonly id = randomUUID();
  readonly observers: Observers;
  readonly children: () => readonly ChildRole[];
  /** Called by a role that can do nothing more until it is started anew. */
  readonly fail: (cause: GridrootError) => void;
  readonly #roles: readonly Role[];
  readonly #clock: Clock;
  #open: OpenStores | undefined;
  #chain: Promise<ChainAccess> | undefined;
  #mine: ((blocks: number) => Promise<void>) | undefined;

  constructor(context: Context, name: string, parts: RoleProcessParts = {}) {
    this.context = context;
    this.settings = context.settings;
    const { logLevel, logFile } = context.settings;
    this.#roles = parts.roles ?? [];
    this.log = parts.log ?? openLog({ level: logLevel, file: logFile, role: name });
    this.observers = parts.observers ?? {};
    this.children = parts.children ?? (() => []);
    this.fail = parts.fail ?? (() => {});
    this.faults = parseFaultPoint(context.settings.faultPoint);
    // A clock that the parent sets stands at the epoch until it does: whatever a meter sends then is refused.
    this.#clock = context.settings.clockSource === "parent" ? new SettableClock(0) : systemClock;
    collectDefaultMetrics({ register: this.metrics });
  }

  /** The clock that readings are checked against; the machine's, unless a demonstration sets it. */
  get readingClock(): Clock {
    return this.#clock;
  }

  setClock(nowMs: number): void {
    if (!(this.#clock instanceof SettableClock)) {
      throw new GridrootError("clock-not-settable", "this process takes the machine's clock");
    }
    this.#clock.set(nowMs);
  }

  /** Called by the role that runs the local chain. */
  offerMining(mine: (blocks: number) => Promise<void>): void {
    this.#mine = mine;
  }

  async mine(blocks: number): Promise<void> {
    if (this.#mine === undefined)
      throw new GridrootError("no-local-chain", "this process runs no local chain");
    await this.#mine(blocks);
  }

  ledger(): Promise<Pool> {
    return this.#opener().ledger();
  }

  eventLog(): Promise<EventLog> {
    return this.#opener().eventLog();
  }

  timeSeries(): Promise<TimeSeries> {
    return this.#opener().timeSeries();
  }

  /** All of them, for commands that look at everything. */
  stores(): Promise<Stores> {
    return this.#opener().all();
  }

  #opener(): OpenStores {
    if (this.settings.postgresUrl === "") throw missing("GRIDROOT_POSTGRES_URL");
    this.#open ??= new OpenStores(this.settings, this.context.adapters, this, {
      applicationName: "gridroot",
      maxConnections: poolSize(this.settings, this.#roles),
    });
    return this.#open;
  }

  chain(): Promise<ChainAccess> {
    if (this.settings.chainRpcUrl === "") throw missing("GRIDROOT_CHAIN_RPC_URL");
    if (this.settings.contractAddress === "") throw missing("GRIDROOT_CONTRACT_ADDRESS");
    this.#chain ??= openChain(this.settings);
    return this.#chain;
  }

  /** Closes what was opened, after the services that use it have stopped. */
  async close(): Promise<void> {
    const chain = await this.#chain?.catch(() => undefined);
    chain?.provider.destroy();
    await this.#open?.close();
  }
}

async function openChain(settings: Settings): Promise<ChainAccess> {
  const provider = chainProvider(settings.chainRpcUrl, settings.chainId);
  const verifyingContract = settings.contractAddress.toLowerCase() as Hex;
  return {
    provider,
    client: settlementClient(verifyingContract, provider),
    domain: { chainId: settings.chainId, verifyingContract },
  };
}

/** A setting that a role cannot do without. */
export function missing(name: string): GridrootError {
  return new GridrootError("settings-invalid", `${name}: this role needs it`);
}
