import { randomBytes } from "node:crypto";
import pg from "pg";
import { backendsOf } from "../service/backends.ts";
import type { Settings } from "../service/configuration.ts";
import type { Context } from "./context.ts";
import { openLog } from "../service/logging.ts";

/** The stores of a demonstration. */
export interface DemoServers {
  /** Where they are. */
  readonly settings: Pick<Settings, "postgresUrl" | "postgresDirectUrl" | "postgresReplicaUrl" | "namespace">;
  /** Deletes what the demonstration left on servers that live on. */
  discard(): Promise<void>;
}

/**
 * A database and a namespace of the demonstration's own on the configured servers; without the distributed profile
 * an embedded PostgreSQL in the demonstration's folder, which goes with it.
 */
export async function demoServers(context: Context): Promise<DemoServers> {
  const { settings } = context;
  const id = randomBytes(4).toString("hex");
  const namespace = `demo-${id}`;
  const none = { postgresUrl: "", postgresDirectUrl: "", postgresReplicaUrl: "", namespace };
  const { eventLog, timeSeries, jobs } = backendsOf(settings);
  if (settings.profile === "embedded" && [eventLog, timeSeries, jobs].every((one) => one === "postgres")) {
    return { settings: none, discard: async () => {} };
  }
  const database = `gridroot_demo_${id}`;
  const server = settings.postgresDirectUrl === "" ? settings.postgresUrl : settings.postgresDirectUrl;
  const own = { ...none, postgresUrl: server === "" ? "" : withDatabase(server, database) };
  if (server !== "") await execute(server, `create database ${database}`);
  return {
    settings: own,
    async discard() {
      const log = openLog({ level: "warn", file: "", role: "command" });
      await context.adapters.discardNamespace({ ...settings, ...own }, log);
      if (server !== "") await execute(server, `drop database if exists ${database} with (force)`);
    },
  };
}

function withDatabase(connectionString: string, database: string): string {
  const url = new URL(connectionString);
  url.pathname = `/${database}`;
  return url.href;
}

async function execute(connectionString: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString, application_name: "gridroot demo" });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
