import pg from "pg";
import { GridrootError, invariant } from "../../service/errors.ts";
import { type FaultPoints, noFaults } from "../../service/faults.ts";
import type { Appender, NewRecord } from "../event-log.ts";
import { packBatches } from "./packed-batch.ts";
import type { Announcer } from "./news.ts";

/** Where a crash test may kill an appending process. */
export const APPENDER_FAULT_POINTS = ["event-log.before-append", "event-log.after-append"] as const;

export interface AppenderOptions {
  readonly connectionString: string;
  /** Bound of one append, connecting included, ms. */
  readonly appendTimeoutMs: number;
  /** Limits of a stored batch; an append that exceeds them is stored as several. */
  readonly storedBatchRecords: number;
  readonly storedBatchBytes: number;
}

/** SQLSTATE of `append_batches` for a topic or partition that does not exist. */
const PARTITION_MISSING = "GR001";

/** The parameters of `append_batches`. */
export interface AppendStatement {
  readonly topics: string[];
  readonly partitions: number[];
  readonly recordCounts: number[];
  readonly byteCounts: number[];
  readonly packed: Buffer;
}

/**
 * Appends over a connection of its own, one round trip and one commit for all partitions of an append. Rejects with
 * `append-failed` (retryable, outcome unknown) when the server fails or does not answer in time, and connects anew
 * at the next call; with `log-partition-missing` when nothing was appended because a partition does not exist.
 */
export class PostgresAppender implements Appender {
  readonly #options: AppenderOptions;
  readonly #announcer: Announcer;
  readonly #faults: FaultPoints;
  #client: pg.Client | undefined;
  #pending: Promise<void> | undefined;
  #closed = false;

  constructor(options: AppenderOptions, dependencies: { announcer: Announcer; faults?: FaultPoints }) {
    this.#options = options;
    this.#announcer = dependencies.announcer;
    this.#faults = dependencies.faults ?? noFaults;
  }

  append(records: readonly NewRecord[]): Promise<void> {
    invariant(this.#pending === undefined, "an append was called while another is in flight");
    invariant(!this.#closed, "an append was called on a closed appender");
    if (records.length === 0) return Promise.resolve();
    this.#pending = this.#append(records).finally(() => (this.#pending = undefined));
    return this.#pending;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#pending?.catch(() => {});
    const client = this.#client;
    this.#client = undefined;
    await client?.end();
  }

  async #append(records: readonly NewRecord[]): Promise<void> {
    const statement = packAppend(records, this.#options);
    this.#faults.hit("event-log.before-append");
    try {
      await this.#withinTimeout(this.#send(statement));
    } catch (cause) {
      this.#disconnect();
      if ((cause as { code?: unknown }).code === PARTITION_MISSING) {
        throw new GridrootError("log-partition-missing", "append to a partition that does not exist", {
          cause,
        });
      }
      throw new GridrootError("append-failed", "the event log did not confirm an append", {
        cause,
        retryable: true,
      });
    }
    this.#faults.hit("event-log.after-append");
    statement.topics.forEach((topic, at) => this.#announcer.partition(topic, statement.partitions[at]!));
  }

  async #send(statement: AppendStatement): Promise<void> {
    this.#client ??= await this.#connect();
    await this.#client.query("select append_batches($1, $2, $3, $4, $5)", [
      statement.topics,
      statement.partitions,
      statement.recordCounts,
      statement.byteCounts,
      statement.packed,
    ]);
  }

  async #connect(): Promise<pg.Client> {
    const { connectionString, appendTimeoutMs } = this.#options;
    // The server's own limit ends a statement whose client has given up, which would otherwise go on holding locks.
    const client = new pg.Client({
      connectionString,
      application_name: "gridroot append",
      connectionTimeoutMillis: appendTimeoutMs,
      keepAlive: true,
      options: `-c search_path=log -c synchronous_commit=on -c statement_timeout=${appendTimeoutMs}`,
    });
    client.on("error", () => {
      if (this.#client === client) this.#client = undefined;
    });
    await client.connect();
    return client;
  }

  #disconnect(): void {
    const client = this.#client;
    this.#client = undefined;
    // With a statement still unanswered this cuts the connection; whatever it reports concerns nobody any more.
    client?.end().catch(() => {});
  }

  async #withinTimeout(work: Promise<void>): Promise<void> {
    const { promise: timeout, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new GridrootError("append-timeout", "the server did not answer")),
      this.#options.appendTimeoutMs,
    );
    try {
      await Promise.race([work, timeout]);
    } finally {
      clearTimeout(timer);
      work.catch(() => {});
    }
  }
}

/** Packs records partition by partition, keeping their order within each. */
export function packAppend(
  records: readonly NewRecord[],
  limits: Pick<AppenderOptions, "storedBatchRecords" | "storedBatchBytes">,
): AppendStatement {
  const byPartition = new Map<string, NewRecord[]>();
  for (const record of records) {
    const name = `${record.topic}/${record.partition}`;
    const list = byPartition.get(name);
    if (list === undefined) byPartition.set(name, [record]);
    else list.push(record);
  }
  const topics: string[] = [];
  const partitions: number[] = [];
  const recordCounts: number[] = [];
  const parts: Buffer[] = [];
  for (const list of byPartition.values()) {
    const { topic, partition } = list[0]!;
    for (const batch of packBatches(list, limits.storedBatchRecords, limits.storedBatchBytes)) {
      topics.push(topic);
      partitions.push(partition);
      recordCounts.push(batch.recordCount);
      parts.push(batch.bytes);
    }
  }
  const byteCounts = parts.map((part) => part.length);
  return { topics, partitions, recordCounts, byteCounts, packed: Buffer.concat(parts) };
}
