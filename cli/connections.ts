import { backendsOf } from "../service/backends.ts";
import type { Settings } from "../service/configuration.ts";
import type { Role } from "./roles.ts";

/** Connections to PostgreSQL that one process of a role holds at the most. */
export interface RoleConnections {
  /** Its pool on the ledger, or an authority's on its own store. Through the pooler where there is one. */
  readonly pool: number;
  /** Sessions that LISTEN, on the server itself. */
  readonly listeners: number;
  /** Sessions of BullMQ, where PostgreSQL keeps the jobs: pools of 4 for queue and worker, and one that listens. */
  readonly jobs: number;
  /** Sessions of the log, where it is PostgreSQL's: a pool of 4, and one for each appender and listener. */
  readonly eventLog: number;
  /** The pool of the series, or of its marks beside InfluxDB. Through the pooler as well. */
  readonly timeSeries: number;
  /** The pool on the read replica, where there is one. */
  readonly replica: number;
}

const NONE: RoleConnections = { pool: 0, listeners: 0, jobs: 0, eventLog: 0, timeSeries: 0, replica: 0 };

/**
 * Why so many: a pool has one connection for each piece of work that a process does at the same time, up to what a
 * server gains from; waiting for a connection costs less than sharing the server's cores with too many.
 */
export const CONNECTIONS: Readonly<Record<Role, RoleConnections>> = {
  chain: NONE,
  // Look-ups of meters that connect, by key, and claims of sessions in groups. Readings go to the log.
  ingest: { ...NONE, pool: 4, listeners: 2, eventLog: 5 },
  // One transaction for each partition that is flushed, the balance and the retention.
  recorder: { ...NONE, pool: 4, eventLog: 5, timeSeries: 4 },
  // Two seals at a time, flushes of partitions beside them, and looks at whether more can be sealed.
  aggregator: { ...NONE, pool: 8, listeners: 2, jobs: 9, eventLog: 5 },
  // Requests in hand.
  api: { ...NONE, pool: 8, eventLog: 4, timeSeries: 4, replica: 8 },
  // Batches are verified one after another, delivered side by side.
  authority: { ...NONE, pool: 4 },
  // One turn at a time: its statements follow one another.
  relayer: { ...NONE, pool: 2, listeners: 2 },
};

/** Of a process without a role: a command, or the preparation of a start. */
const COMMAND_POOL = 2;

type PoolSettings = Pick<Settings, "postgresMaxConnections">;

/** The size of the ledger's pool in a process of these roles; roles of one process share it. */
export function poolSize(settings: PoolSettings, roles: readonly Role[]): number {
  if (settings.postgresMaxConnections > 0) return settings.postgresMaxConnections;
  return Math.max(COMMAND_POOL, sum(roles.map((role) => CONNECTIONS[role].pool)));
}

/** What a process of these roles holds at the most: through a pooler where there is one, past it, and at the replica. */
export function processConnections(
  settings: PoolSettings & Parameters<typeof backendsOf>[0] & Pick<Settings, "postgresReplicaUrl">,
  roles: readonly Role[],
): { readonly pooled: number; readonly direct: number; readonly replica: number } {
  const { eventLog, jobs } = backendsOf(settings);
  const most = (part: keyof RoleConnections) => Math.max(0, ...roles.map((role) => CONNECTIONS[role][part]));
  const each = (part: keyof RoleConnections) => sum(roles.map((role) => CONNECTIONS[role][part]));
  const pool = roles.some((role) => CONNECTIONS[role].pool > 0) ? poolSize(settings, roles) : 0;
  return {
    pooled: pool + most("timeSeries"),
    direct:
      each("listeners") +
      (jobs === "postgres" ? each("jobs") : 0) +
      (eventLog === "postgres" ? most("eventLog") : 0),
    replica: settings.postgresReplicaUrl === "" ? 0 : each("replica"),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
