import type pg from "pg";
import type { Logger } from "pino";
import { Counter, Gauge, type Registry } from "prom-client";
import { limitStatements, type Pool, type Queryable } from "./database.ts";
import type { Service } from "./lifecycle.ts";
import { ReplicaLag, type ReplicaState } from "./replica-lag.ts";

/** What one request reads. */
export interface RequestReads {
  /** For statements that only read. What a later one sees is never older than what an earlier one saw. */
  readonly db: Queryable;
  /** What `look` finds. What a replica lacks is looked for on the primary, because it may be on its way. */
  find<T>(look: (db: Queryable) => Promise<T | undefined>): Promise<T | undefined>;
}

/** Where requests read that may see data some seconds old. */
export interface Reads {
  begin(): RequestReads;
}

/** Reads without a replica. */
export function primaryReads(primary: Queryable): Reads {
  const reads: RequestReads = { db: primary, find: (look) => look(primary) };
  return { begin: () => reads };
}

export interface ReplicaReadsOptions {
  /** Above this lag reads come from the primary, ms. */
  readonly lagMaxMs: number;
  /** A statement that the replica has not answered by then is repeated on the primary, ms. Default 5,000. */
  readonly statementTimeoutMs?: number;
}

export interface ReplicaReadsDependencies {
  readonly primary: Pool;
  readonly replica: Pool;
  readonly log: Logger;
  readonly metrics: Registry;
  /** A monotonic clock. Default `performance.now`. */
  readonly nowMs?: () => number;
}

const STATEMENT_TIMEOUT_MS = 5_000;
const LONGEST_PAUSE_MS = 1_000;
/** The bound holds at any moment, so lag is looked at several times within it. */
const MEASUREMENTS_PER_LAG = 4;

/**
 * Reads from a streaming replica while it answers and lags no more than allowed, else from the primary. A statement
 * that fails on the replica is repeated on the primary at once: it only reads, so that is safe. Starts, and stays,
 * whatever the replica does.
 */
export class ReplicaReads implements Service, Reads {
  readonly name = "ledger replica";
  readonly #options: ReplicaReadsOptions;
  readonly #primary: Pool;
  readonly #replica: Queryable;
  readonly #replicaPool: Pool;
  readonly #log: Logger;
  readonly #lag: ReplicaLag;
  readonly #meters: ReturnType<typeof createMeters>;
  #wasUsed: boolean | undefined;

  constructor(options: ReplicaReadsOptions, dependencies: ReplicaReadsDependencies) {
    const { primary, replica, log, metrics, nowMs = () => performance.now() } = dependencies;
    this.#options = options;
    this.#primary = primary;
    this.#replicaPool = replica;
    this.#replica = limitStatements(replica, options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS);
    this.#log = log;
    const everyMs = Math.min(LONGEST_PAUSE_MS, options.lagMaxMs / MEASUREMENTS_PER_LAG);
    this.#lag = new ReplicaLag({ everyMs, answerWithinMs: LONGEST_PAUSE_MS }, { primary, replica, nowMs });
    const openedMs = nowMs();
    this.#meters = createMeters(metrics, () => this.#lag.state.lagMs ?? nowMs() - openedMs);
  }

  /** What is known of the replica, and whether requests read from it now. */
  get state(): ReplicaState & { readonly used: boolean } {
    const state = this.#lag.state;
    return { ...state, used: state.answers && (state.lagMs ?? Infinity) <= this.#options.lagMaxMs };
  }

  async start(): Promise<void> {
    await this.#lag.start(() => this.#noteChange());
  }

  /** Ends the measuring and closes the replica's pool. */
  async stop(): Promise<void> {
    await this.#lag.stop();
    await this.#replicaPool.end();
  }

  /** Once a request has read from the primary it goes on there: the replica could know less than it has seen. */
  begin(): RequestReads {
    let onPrimary = false;
    const query = async (text: string, values?: unknown[]): Promise<pg.QueryResult> => {
      if (!onPrimary && this.state.used) {
        try {
          const result = await this.#replica.query(text, values);
          this.#meters.reads.inc({ source: "replica" });
          return result;
        } catch (error) {
          this.#meters.failures.inc();
          this.#log.debug({ err: error }, "statement failed on the replica, repeated on the primary");
        }
      }
      onPrimary = true;
      this.#meters.reads.inc({ source: "primary" });
      return this.#primary.query(text, values);
    };
    const db = { query } as Pick<pg.Pool, "query">;
    const find = async <T>(look: (db: Queryable) => Promise<T | undefined>): Promise<T | undefined> => {
      const found = await look(db);
      if (found !== undefined || onPrimary) return found;
      onPrimary = true;
      return look(db);
    };
    return { db, find };
  }

  #noteChange(): void {
    const { used, lagMs, reason } = this.state;
    if (used === this.#wasUsed) return;
    this.#wasUsed = used;
    if (used) this.#log.info({ lagMs }, "reads come from the replica");
    else this.#log.warn({ lagMs, reason }, "reads come from the primary");
  }
}

function createMeters(metrics: Registry, lagMs: () => number) {
  const registers = [metrics];
  const lag = new Gauge({
    name: "api_replica_lag_seconds",
    help: "How long ago the replica surely held all that was committed; since the start where it never did",
    registers: [],
    aggregator: "max",
    collect() {
      this.set(lagMs() / 1000);
    },
  });
  metrics.registerMetric(lag);
  return {
    reads: new Counter({
      name: "api_replica_reads_total",
      help: "Statements of requests that may read from the replica, by who answered",
      labelNames: ["source"] as const,
      registers,
    }),
    failures: new Counter({
      name: "api_replica_failures_total",
      help: "Statements that failed on the replica and were repeated on the primary",
      registers,
    }),
  };
}
