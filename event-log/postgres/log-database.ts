import type { QueryConfig, QueryResult } from "pg";
import type { Pool } from "../../service/database.ts";

/** The log's pool with a bound on every statement, so that a server that hangs holds nobody for ever. */
export class LogDatabase {
  readonly #pool: Pool;
  readonly #queryTimeoutMs: number;

  constructor(options: { queryTimeoutMs: number }, dependencies: { pool: Pool }) {
    this.#queryTimeoutMs = options.queryTimeoutMs;
    this.#pool = dependencies.pool;
  }

  /**
   * The rows of one statement, run in a transaction of its own. With a `name`, each connection has it prepared once:
   * for the statement that planning would otherwise cost more than running.
   */
  async query<Row extends object>(text: string, values: unknown[], name?: string): Promise<readonly Row[]> {
    return (await this.#run<Row>(text, values, name)).rows;
  }

  /** The number of rows that one statement touched. */
  async execute(text: string, values: unknown[]): Promise<number> {
    return (await this.#run(text, values)).rowCount ?? 0;
  }

  #run<Row extends object>(text: string, values: unknown[], name?: string): Promise<QueryResult<Row>> {
    // The pool closes the connection of a statement that is not answered in time.
    const config: QueryConfig & { query_timeout: number } = {
      text,
      values,
      ...(name === undefined ? {} : { name }),
      query_timeout: this.#queryTimeoutMs,
    };
    return this.#pool.query<Row>(config as QueryConfig);
  }
}
