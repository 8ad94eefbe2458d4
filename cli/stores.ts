import { join } from "node:path";
import type { Logger } from "pino";
import type { EventLog } from "../event-log/event-log.ts";
import type { Settings } from "../service/configuration.ts";
import { openPool, type Pool } from "../service/database.ts";
import { EmbeddedPostgres } from "../service/embedded-postgres.ts";
import { GridrootError } from "../service/errors.ts";
import { migrate } from "../service/migrate.ts";
import type { TimeSeries } from "../time-series/time-series.ts";
import { openLog } from "../service/logging.ts";
import type { Adapters, Context } from "./context.ts";

/** Schema of the ledger in its database. */
export const LEDGER_SCHEMA = "ledger";

const LEDGER_MIGRATIONS = new URL("../ledger/migrations/", import.meta.url);

/** The stores of one process. */
export interface Stores {
  readonly ledger: Pool;
  readonly eventLog: EventLog;
  readonly timeSeries: TimeSeries;
  close(): Promise<void>;
}

/** Opens ledger, log and series, and applies their migrations. `settings.postgresUrl` must be set. */
export async function openStores(
  settings: Settings,
  adapters: Adapters,
  log: Logger,
  options: { applicationName: string; maxConnections: number },
): Promise<Stores> {
  const ledger = openLedger(settings, log, options);
  await migrate(ledger, LEDGER_SCHEMA, LEDGER_MIGRATIONS);
  const eventLog = await adapters.openEventLog(settings, log);
  const timeSeries = await adapters.openTimeSeries(settings, log);
  return {
    ledger,
    eventLog,
    timeSeries,
    async close() {
      await timeSeries.close();
      await eventLog.close();
      await ledger.end();
    },
  };
}

/** A pool on the ledger. */
export function openLedger(
  settings: Settings,
  log: Logger,
  options: { applicationName: string; maxConnections: number },
): Pool {
  return openPool({ connectionString: settings.postgresUrl, schema: LEDGER_SCHEMA, ...options }, (error) =>
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
  const stores = await openStores(settings, context.adapters, log, {
    applicationName: "gridroot command",
    maxConnections: 2,
  });
  try {
    return await work(stores);
  } finally {
    await stores.close();
  }
}
