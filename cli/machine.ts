import { rm } from "node:fs/promises";
import { join } from "node:path";
import { ChildRole } from "../service/child-process.ts";
import { SETTINGS, type Settings } from "../service/configuration.ts";
import type { Keys } from "../service/keys.ts";
import { Lifecycle } from "../service/lifecycle.ts";
import { environmentOf } from "../service/settings.ts";
import type { Context } from "./context.ts";
import { authorityOwner, deployEmbedded, embeddedKeys } from "./deployment.ts";
import { requireFree } from "./ports.ts";
import { PostgresHold } from "./postgres-hold.ts";
import { BACKFILL_S, prepareStores } from "./prepare.ts";
import { RoleProcess, type Observers } from "./role-process.ts";
import { type Role, servicesOf } from "./roles.ts";
import { unixNowS } from "./times.ts";

/** Roles that share the main process. */
const MAIN_ROLES: readonly Role[] = ["recorder", "relayer", "api"];
/** Roles with a process of their own: sealing has many short steps, which would wait for everybody else's. */
const OWN_ROLES: readonly Role[] = ["aggregator"];

const CHILD_READY_WITHIN_MS = 60_000;
const CHILD_STOP_WITHIN_MS = 20_000;

export interface MachineOptions {
  /** On or before the first interval that may be settled, unix seconds; by default 31 days ago. */
  readonly regionsStartS?: number;
  /** Whether the local chain is forgotten first. */
  readonly resetChain: boolean;
  readonly observers: Observers;
  /** Whether every role has a process of its own, instead of some sharing the main one. Default false. */
  readonly apart?: boolean;
}

/**
 * Every role of the embedded profile on this machine: database and chain where none is configured, stages in this
 * process, ingest workers, authorities and chain in processes of their own.
 */
export class Machine {
  readonly #context: Context;
  readonly #options: MachineOptions;
  readonly #lifecycle: Lifecycle;
  readonly #first: RoleProcess;
  #main: RoleProcess | undefined;
  #ingest: readonly ChildRole[] = [];
  #chain: ChildRole | undefined;
  #children: readonly ChildRole[] = [];

  constructor(context: Context, options: MachineOptions) {
    this.#context = context;
    this.#options = options;
    this.#first = new RoleProcess(context, "main");
    this.#lifecycle = new Lifecycle({ log: this.#first.log });
  }

  /** The main process's stores and settings, once started. */
  get process(): RoleProcess {
    if (this.#main === undefined) throw new Error("the machine is not started");
    return this.#main;
  }

  /** Child roles that run now, by name; for tests that kill them. */
  get children(): readonly ChildRole[] {
    return this.#children;
  }

  async start(): Promise<void> {
    const { settings, grid } = this.#context;
    await requirePorts(settings);
    if (this.#options.resetChain) await this.#forgetChain();
    const postgres = new PostgresHold(settings, { log: this.#first.log });
    await this.#lifecycle.start(postgres);
    const withPostgres = { ...settings, postgresUrl: postgres.url };
    const keys = await embeddedKeys(settings, grid);

    const [chain] = await Promise.all([
      this.#startChain(withPostgres, keys),
      this.#prepareStores(withPostgres),
    ]);
    const resolved = {
      ...chain,
      relayerKey: chain.relayerKey === "" ? (keys["relayer"] ?? "") : chain.relayerKey,
    };
    const main = new RoleProcess({ ...this.#context, settings: resolved }, "main", {
      roles: this.#options.apart === true ? [] : MAIN_ROLES,
      observers: this.#options.observers,
      children: () => this.#children,
      log: this.#first.log,
    });
    this.#main = main;
    await Promise.all([this.#startStages(main, resolved), this.#startIngest(resolved)]);
    await this.#startAuthorities(resolved, keys);
  }

  /** Sets the clock that ingest checks readings against, in every worker, before it resolves. */
  async setReadingClock(nowMs: number): Promise<void> {
    await Promise.all(this.#ingest.map((worker) => worker.ask({ ask: "clock", nowMs })));
  }

  /** Mines blocks on the local chain. */
  async mine(blocks: number): Promise<void> {
    await this.#chain?.ask({ ask: "mine", blocks });
  }

  async stop(): Promise<void> {
    await this.#lifecycle.stop();
  }

  async #forgetChain(): Promise<void> {
    await rm(join(this.#context.settings.dataDir, "chain"), { recursive: true, force: true });
  }

  /** Creates schema, regions and topics, before any role looks for them. */
  async #prepareStores(settings: Settings): Promise<void> {
    const preparation = new RoleProcess({ ...this.#context, settings }, "main", { log: this.#first.log });
    try {
      await prepareStores(preparation);
    } finally {
      await preparation.close();
    }
  }

  async #startChain(settings: Settings, keys: Keys): Promise<Settings> {
    const { grid } = this.#context;
    if (settings.chainRpcUrl !== "") return settings;
    this.#chain = this.#child("chain", "chain", settings);
    await this.#lifecycle.start(this.#chain);
    const local = { ...settings, chainRpcUrl: `http://127.0.0.1:${settings.chainPort}` };
    const regionsStartS = this.#options.regionsStartS ?? unixNowS() - BACKFILL_S;
    return { ...local, contractAddress: await deployEmbedded(local, grid, keys, regionsStartS) };
  }

  async #startStages(main: RoleProcess, settings: Settings): Promise<void> {
    await this.#lifecycle.start({ name: "stores", start: async () => {}, stop: () => main.close() });
    const apart = this.#options.apart === true ? [...MAIN_ROLES, ...OWN_ROLES] : OWN_ROLES;
    const together = this.#options.apart === true ? [] : MAIN_ROLES;
    const children = apart.map((role) => this.#child(role, role, settings));
    await Promise.all([
      ...children.map((child) => this.#lifecycle.start(child)),
      this.#startHere(together, main),
    ]);
  }

  async #startHere(roles: readonly Role[], main: RoleProcess): Promise<void> {
    for (const role of roles) {
      for (const service of await servicesOf(role, main)) await this.#lifecycle.start(service);
    }
  }

  async #startIngest(settings: Settings): Promise<void> {
    // Workers need no key of anybody.
    const bare = { ...settings, relayerKey: "", authorityKey: "" };
    this.#ingest = Array.from({ length: settings.ingestWorkers }, (_, index) =>
      this.#child(`ingest-${index + 1}`, "ingest", bare),
    );
    await Promise.all(this.#ingest.map((worker) => this.#lifecycle.start(worker)));
  }

  async #startAuthorities(settings: Settings, keys: Keys): Promise<void> {
    const authorities = this.#context.grid.authorities.map(({ name }) =>
      this.#child(`authority-${name}`, "authority", {
        ...settings,
        relayerKey: "",
        authorityName: name,
        authorityKey: keys[authorityOwner(name)] ?? "",
      }),
    );
    await Promise.all(authorities.map((authority) => this.#lifecycle.start(authority)));
  }

  #child(name: string, role: Role, settings: Settings): ChildRole {
    const child = new ChildRole(
      {
        name,
        mainFile: this.#context.mainFile,
        args: ["start", "--roles", role],
        environment: { ...this.#context.inheritedEnvironment, ...environmentOf(SETTINGS, settings) },
        readyWithinMs: CHILD_READY_WITHIN_MS,
        stopWithinMs: CHILD_STOP_WITHIN_MS,
      },
      { log: this.#first.log },
    );
    this.#children = [...this.#children, child];
    return child;
  }
}

async function requirePorts(settings: Settings): Promise<void> {
  await requireFree(settings.mqttPort, settings.mqttHost, SETTINGS.mqttPort.name);
  await requireFree(settings.httpPort, settings.httpHost, SETTINGS.httpPort.name);
  if (settings.chainRpcUrl === "")
    await requireFree(settings.chainPort, "127.0.0.1", SETTINGS.chainPort.name);
}
