import { join } from "node:path";
import type { Logger } from "pino";
import { Registry } from "prom-client";
import type { EventLog } from "../event-log/event-log.ts";
import type { Settings } from "../service/configuration.ts";
import { openPool, type Pool } from "../service/database.ts";
import { EmbeddedPostgres } from "../service/embedded-postgres.ts";
import { GridrootError } from "../service/errors.ts";
import { migrate } from "../service/migrate.ts";
import type { TimeSeries } from "../time-series/time-series.ts";
import { openLog } from "../service/logging.ts";
import { showPool } from "../service/pool-gauges.ts";
import type { Adapters, Context, StoreDependencies } from "./context.ts";

/** Schema of the ledger in its database. */
export const LEDGER_SCHEMA = "ledger";

const LEDGER_MIGRATIONS = new URL("../ledger/migrations/", import.meta.url);

/** The pool on the ledger that a process wants. */
export interface LedgerPoolOptions {
  readonly applicationName: string;
  readonly maxConnections: number;
}

/** The stores of one process. */
export interface Stores {
  readonly ledger: Pool;
  readonly eventLog: EventLog;
  readonly timeSeries: TimeSeries;
}

/**
 * The stores of one process, each opened, with its migrations, when it is asked for: a process that does not need
 * a store runs while that is away.
 */
export class OpenStores {
  readonly #settings: Settings;
  readonly #adapters: Adapters;
  readonly #dependencies: StoreDependencies;
  readonly #pool: LedgerPoolOptions;
  #ledger: Promise<Pool> | undefined;
  #eventLog: Promise<EventLog> | undefined;
  #timeSeries: Promise<TimeSeries> | undefined;

  /** `settings.postgresUrl` must be set. */
  constructor(
    settings: Settings,
    adapters: Adapters,
    dependencies: StoreDependencies,
    pool: LedgerPoolOptions,
  ) {
    this.#settings = settings;
    this.#adapters = adapters;
    this.#dependencies = dependencies;
    this.#pool = pool;
  }

  // A store that could not be opened is tried again by the next who asks.
  ledger(): Promise<Pool> {
    this.#ledger ??= this.#openLedger().catch((cause: unknown) => {
      this.#ledger = undefined;
      throw cause;
    });
    return this.#ledger;
  }

  eventLog(): Promise<EventLog> {
    this.#eventLog ??= this.#adapters
      .openEventLog(this.#settings, this.#dependencies)
      .catch((cause: unknown) => {
        this.#eventLog = undefined;
        throw cause;
      });
    return this.#eventLog;
  }

  timeSeries(): Promise<TimeSeries> {
    this.#timeSeries ??= this.#adapters
      .openTimeSeries(this.#settings, this.#dependencies)
      .catch((cause: unknown) => {
        this.#timeSeries = undefined;
        throw cause;
      });
    return this.#timeSeries;
  }

  async all(): Promise<Stores> {
    return {
      ledger: await this.ledger(),
      eventLog: await this.eventLog(),
      timeSeries: await this.timeSeries(),
    };
  }

  /** Closes what was opened. */
  async close(): Promise<void> {
    const opened = <T>(store: Promise<T> | undefined) => store?.catch(() => undefined);
    await (await opened(this.#timeSeries))?.close();
    await (await opened(this.#eventLog))?.close();
    await (await opened(this.#ledger))?.end();
  }

  async #openLedger(): Promise<Pool> {
    const { log, metrics } = this.#dependencies;
    const ledger = openLedger(this.#settings, log, this.#pool);
    showPool("ledger", ledger, metrics);
    try {
      await migrate(ledger, LEDGER_SCHEMA, LEDGER_MIGRATIONS);
      return ledger;
    } catch (cause) {
      await ledger.end();
      throw cause;
    }
  }
}

/** A pool on the ledger. */
export function openLedger(settings: Settings, log: Logger, options: LedgerPoolOptions): Pool {
  return openPool({ connectionString: settings.postgresUrl, ...options }, (error) =>
    log.warn({ err: error }, "idle ledger connection lost"),
  );
}

/** The embedded PostgreSQL of a data folder. */
export function embeddedPostgres(settings: Settings): EmbeddedPostgres {
  return new EmbeddedPostgres({ dataDir: join(settings.dataDir, "postgres"), port: settings.postgresPort });
}

/**
 * Settings with the connection of the PostgreSQL that runs: the configured one, or the embedded one of a `start` on
 * the same data folder. Throws `not-running`.
 */
export async function withRunningPostgres(settings: Settings): Promise<Settings> {
  if (settings.postgresUrl !== "") return settings;
  const server = embeddedPostgres(settings);
  if (!(await server.attach())) {
    throw new GridrootError(
      "not-running",
      `nothing runs on ${settings.dataDir}: start it with \`gridroot start\``,
    );
  }
  return { ...settings, postgresUrl: server.url };
}

/** Runs `work` with the stores of what runs on the data folder, and closes them. */
export async function withStores<T>(context: Context, work: (stores: Stores) => Promise<T>): Promise<T> {
  const settings = await withRunningPostgres(context.settings);
  const log = openLog({ level: "warn", file: "", role: "command" });
  const pool = { applicationName: "gridroot command", maxConnections: 2 };
  const stores = new OpenStores(settings, context.adapters, { log, metrics: new Registry() }, pool);
  try {
    return await work(await stores.all());
  } finally {
    await stores.close();
  }
}
