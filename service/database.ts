import pg from "pg";

export type Pool = pg.Pool;
export type Connection = pg.PoolClient;
/** What a statement needs: a pool for one statement, a connection inside a transaction. */
export type Queryable = Pick<pg.Pool, "query"> | Pick<pg.PoolClient, "query">;

const types = new pg.TypeOverrides();
types.setTypeParser(pg.types.builtins.INT8, (text) => BigInt(text));

export interface PoolOptions {
  readonly connectionString: string;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
  readonly maxConnections: number;
  /**
   * Schema that unqualified names refer to, for sessions on the server itself: a pooler in transaction mode has none
   * to keep it in. Statements that may go through one name the schema of every table (docs/decisions/0010).
   */
  readonly schema?: string;
  /** How long a statement waits for a connection, made or freed, ms; default 10,000. */
  readonly acquireTimeoutMs?: number;
}

const ACQUIRE_TIMEOUT_MS = 10_000;

/**
 * Opens a pool. `int8` columns arrive as `bigint`. Errors of idle connections are handed to `onIdleError`: the pool
 * replaces such a connection by itself.
 */
export function openPool(options: PoolOptions, onIdleError: (error: Error) => void): Pool {
  const pool = new pg.Pool({
    connectionString: options.connectionString,
    application_name: options.applicationName,
    max: options.maxConnections,
    types,
    ...(options.schema === undefined ? {} : { options: `-c search_path=${options.schema}` }),
    connectionTimeoutMillis: options.acquireTimeoutMs ?? ACQUIRE_TIMEOUT_MS,
    keepAlive: true,
  });
  pool.on("error", onIdleError);
  // The pool listens to idle connections only. One that is cut between two statements of a transaction would end the
  // program by an error event; the next statement rejects and says the same.
  pool.on("connect", (connection) => connection.on("error", () => {}));
  return pool;
}

/**
 * The pool for single statements that are given up after `withinMs`, so that while a server hangs neither they nor
 * their connections are held for ever. The outcome of one that was given up is unknown.
 */
export function limitStatements(pool: Pool, withinMs: number): Queryable {
  const query = (text: string, values: unknown[]) => {
    const config: pg.QueryConfig & { query_timeout: number } = { text, values, query_timeout: withinMs };
    return pool.query(config as pg.QueryConfig);
  };
  return { query } as Pick<pg.Pool, "query">;
}

/** Runs `work` in one transaction. Rolls back and rejects with the cause where it throws. */
export async function inTransaction<T>(pool: Pool, work: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await pool.connect();
  let broken: Error | undefined;
  try {
    await connection.query("begin");
    const result = await work(connection);
    await connection.query("commit");
    return result;
  } catch (cause) {
    broken = await connection.query("rollback").then(
      () => undefined,
      (error: unknown) => error as Error,
    );
    throw cause;
  } finally {
    connection.release(broken);
  }
}

export interface Listener {
  stop(): Promise<void>;
}

/**
 * Calls `onNotify` for each NOTIFY on `channel` (a plain identifier), and once after every reconnect, because what
 * was sent meanwhile is lost: a notification is a hint to look, never the news itself.
 */
export async function listen(
  connectionString: string,
  channel: string,
  onNotify: (payload: string | undefined) => void,
): Promise<Listener> {
  let client: pg.Client | undefined;
  let stopped = false;
  let retry: NodeJS.Timeout | undefined;

  async function connect(): Promise<void> {
    const next = new pg.Client({ connectionString, application_name: `listen ${channel}`, keepAlive: true });
    next.on("notification", (message) => onNotify(message.payload));
    next.on("error", () => {});
    next.on("end", () => {
      if (client === next) scheduleReconnect();
    });
    try {
      await next.connect();
      await next.query(`listen ${channel}`);
    } catch (cause) {
      await next.end().catch(() => {});
      throw cause;
    }
    client = next;
    // It may have been stopped while this connected.
    if (stopped) await disconnect();
  }

  async function disconnect(): Promise<void> {
    const last = client;
    client = undefined;
    await last?.end();
  }

  function scheduleReconnect(): void {
    client = undefined;
    if (stopped) return;
    retry = setTimeout(() => {
      connect().then(() => {
        if (!stopped) onNotify(undefined);
      }, scheduleReconnect);
    }, 250);
  }

  await connect();
  return {
    async stop() {
      stopped = true;
      clearTimeout(retry);
      await disconnect();
    },
  };
}
