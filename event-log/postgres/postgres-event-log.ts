import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { listen, type Listener, openPool, type Pool } from "../../service/database.ts";
import { GridrootError, invariant } from "../../service/errors.ts";
import { type FaultPoints, noFaults } from "../../service/faults.ts";
import { migrate } from "../../service/migrate.ts";
import { showPool } from "../../service/pool-gauges.ts";
import type {
  Appender,
  EventLog,
  GroupMember,
  LogRecord,
  PartitionBounds,
  PartitionHandler,
  TopicPartition,
  TopicSpec,
} from "../event-log.ts";
import { Fetcher } from "./fetcher.ts";
import { LogDatabase } from "./log-database.ts";
import { Membership } from "./membership.ts";
import { Announcer, NEWS_CHANNEL, parseNews } from "./news.ts";
import { unpackBatch } from "./packed-batch.ts";
import { PostgresAppender } from "./postgres-appender.ts";
import { PostgresGroupMember } from "./postgres-group-member.ts";
import { fetchStored } from "./stored-batches.ts";

export interface PostgresEventLogOptions {
  /** Of the server itself or a pooler in session mode: LISTEN needs a session. */
  readonly connectionString: string;
  /** Connections for reading, groups and notifications; appenders and one listener have theirs besides. Default 4. */
  readonly maxConnections?: number;
  /** Bound of an append, connecting included, ms. Default 4500. */
  readonly appendTimeoutMs?: number;
  /** Bound of any other statement, ms. Default 10000. */
  readonly queryTimeoutMs?: number;
  /** After so long without a sign of life a group's member has left, ms. Default 6000. */
  readonly leaseMs?: number;
  /** Time after which consumers look for records without having been notified, ms. Default 500. */
  readonly pollMs?: number;
  /** Most records and bytes a consumer is handed at a time. Default 5000 and 1 MiB. */
  readonly batchRecords?: number;
  readonly batchBytes?: number;
  /** Most bytes one fetch brings for all partitions of this process. Default 8 MiB. */
  readonly fetchBytes?: number;
}

export interface PostgresEventLogDependencies {
  readonly log: Logger;
  readonly faults?: FaultPoints;
  /** Where its pool is shown. */
  readonly metrics?: Registry;
  /** Ids of group members. Default: version 4 UUIDs. */
  readonly newId?: () => string;
}

const DEFAULTS = {
  maxConnections: 4,
  appendTimeoutMs: 4_500,
  queryTimeoutMs: 10_000,
  leaseMs: 6_000,
  pollMs: 500,
  batchRecords: 5_000,
  batchBytes: 1_048_576,
  fetchBytes: 8_388_608,
};

/** Limits of a stored batch: the grain in which consumers are fed and retention deletes. */
const STORED_BATCH_RECORDS = 1_000;
const STORED_BATCH_BYTES = 262_144;
/** Batches deleted by one statement of `trim`. */
const TRIM_BATCHES = 500;
/** As in Kafka, so that a topic can move there. */
const TOPIC_NAME = /^[A-Za-z0-9._-]{1,249}$/;

/**
 * The event log in the schema `log` of a PostgreSQL database: what Kafka stores, one row per append and partition,
 * ordered by the lock of the partition's head row (migrations/0001-log.sql says how).
 */
export class PostgresEventLog implements EventLog {
  readonly #options: typeof DEFAULTS & { readonly connectionString: string };
  readonly #log: Logger;
  readonly #faults: FaultPoints;
  readonly #newId: () => string;
  readonly #pool: Pool;
  readonly #db: LogDatabase;
  readonly #announcer: Announcer;
  readonly #fetcher: Fetcher;
  readonly #appenders = new Set<Appender>();
  readonly #members = new Set<PostgresGroupMember>();
  #listener: Promise<Listener> | undefined;

  private constructor(options: PostgresEventLogOptions, dependencies: PostgresEventLogDependencies) {
    this.#options = { ...DEFAULTS, ...options };
    const { connectionString, maxConnections, batchRecords, batchBytes } = this.#options;
    invariant(
      batchRecords >= STORED_BATCH_RECORDS && batchBytes >= STORED_BATCH_BYTES,
      `a consumer takes at least a stored batch: ${STORED_BATCH_RECORDS} records, ${STORED_BATCH_BYTES} bytes`,
    );
    this.#log = dependencies.log.child({ part: "event-log" });
    this.#faults = dependencies.faults ?? noFaults;
    this.#newId = dependencies.newId ?? randomUUID;
    this.#pool = openPool(
      { connectionString, applicationName: "gridroot event-log", maxConnections, schema: "log" },
      (error) => this.#log.debug({ err: error }, "idle connection lost"),
    );
    if (dependencies.metrics !== undefined) showPool("event-log", this.#pool, dependencies.metrics);
    this.#db = new LogDatabase(this.#options, { pool: this.#pool });
    this.#announcer = new Announcer({ db: this.#db, log: this.#log });
    this.#fetcher = new Fetcher(this.#options, { db: this.#db, log: this.#log });
  }

  /** Connects and brings the schema `log` up to date. */
  static async open(
    options: PostgresEventLogOptions,
    dependencies: PostgresEventLogDependencies,
  ): Promise<PostgresEventLog> {
    const log = new PostgresEventLog(options, dependencies);
    try {
      await migrate(log.#pool, "log", new URL("./migrations/", import.meta.url));
    } catch (cause) {
      await log.close();
      throw cause;
    }
    return log;
  }

  async ensureTopics(topics: readonly TopicSpec[]): Promise<void> {
    for (const { topic, partitions } of topics) {
      if (!TOPIC_NAME.test(topic)) throw new GridrootError("topic-name", `not a topic name: ${topic}`);
      // A repeated or concurrent creation changes nothing; the count that stands is the one of the first.
      await this.#db.query(
        "insert into topic (name, partitions) values ($1, $2) on conflict (name) do nothing",
        [topic, partitions],
      );
      const [found] = await this.#db.query<{ topic_id: number; partitions: number }>(
        "select topic_id, partitions from topic where name = $1",
        [topic],
      );
      if (found?.partitions !== partitions) {
        throw new GridrootError(
          "topic-partitions",
          `topic ${topic} has ${found?.partitions ?? "no"} partitions, ${partitions} are wanted`,
        );
      }
      await this.#db.query(
        "insert into head (topic_id, partition) select $1, generate_series(0, $2 - 1) on conflict do nothing",
        [found.topic_id, partitions],
      );
    }
  }

  openAppender(): Promise<Appender> {
    const { connectionString, appendTimeoutMs } = this.#options;
    const appender = new PostgresAppender(
      {
        connectionString,
        appendTimeoutMs,
        storedBatchRecords: STORED_BATCH_RECORDS,
        storedBatchBytes: STORED_BATCH_BYTES,
      },
      { announcer: this.#announcer, faults: this.#faults },
    );
    this.#appenders.add(appender);
    return Promise.resolve(appender);
  }

  async bounds(partition: TopicPartition): Promise<PartitionBounds> {
    const { first, next } = await this.#head(partition);
    return { first, next };
  }

  /**
   * Waits for an append in flight, whose append time may lie before its commit: an answer to a time that has passed
   * stays true, whatever is appended later.
   */
  async offsetAfter(partition: TopicPartition, appendTimeMs: number): Promise<bigint> {
    const { topicId, next } = await this.#head(partition, "for share of h");
    // Batches below the head seen just now; append times rise with offsets, so the first that matches is the lowest.
    const [found] = await this.#db.query<{ base_offset: bigint }>(
      `select base_offset from batch
        where topic_id = $1 and partition = $2 and base_offset < $3 and append_time_ms > $4
        order by base_offset limit 1`,
      [topicId, partition.partition, next, Math.floor(appendTimeMs)],
    );
    return found?.base_offset ?? next;
  }

  async read(
    partition: TopicPartition,
    fromOffset: bigint,
    maxRecords: number,
  ): Promise<readonly LogRecord[]> {
    const { topicId, first } = await this.#head(partition);
    const records: LogRecord[] = [];
    for (let next = fromOffset > first ? fromOffset : first; records.length < maxRecords;) {
      const wanted = { topicId, partition: partition.partition, fromOffset: next };
      const [fetched] = await fetchStored(this.#db, [wanted], {
        bytes: this.#options.batchBytes,
        records: maxRecords,
      });
      if (fetched!.batches.length === 0) break;
      for (const batch of fetched!.batches) records.push(...unpackBatch(batch, next));
      next = records.at(-1)!.offset + 1n;
    }
    return records.slice(0, maxRecords);
  }

  async join(group: string, topics: readonly string[], handler: PartitionHandler): Promise<GroupMember> {
    const { leaseMs } = this.#options;
    await this.#listen();
    const membership = new Membership(
      { group, memberId: this.#newId(), topics, leaseMs },
      { db: this.#db, announcer: this.#announcer },
    );
    const member = new PostgresGroupMember(
      { group, leaseMs },
      {
        db: this.#db,
        fetcher: this.#fetcher,
        membership,
        handler,
        log: this.#log,
        onLeft: (left) => this.#members.delete(left),
      },
    );
    this.#members.add(member);
    try {
      await member.start();
    } catch (cause) {
      this.#members.delete(member);
      throw cause;
    }
    return member;
  }

  /**
   * Drops whole batches, so the batch that holds `belowOffset` stays. The first offset moves before anything is
   * deleted, in a short transaction of its own, so that appenders hardly wait.
   */
  async trim(partition: TopicPartition, belowOffset: bigint): Promise<void> {
    const { topicId, next } = await this.#head(partition);
    const floor = belowOffset < next ? belowOffset : next;
    const [head] = await this.#db.query<{ first_offset: bigint }>(
      `update head
          set first_offset = greatest(first_offset, coalesce((
                select case when base_offset + record_count > $3 then base_offset else $3 end
                  from batch where topic_id = $1 and partition = $2 and base_offset <= $3
                 order by base_offset desc limit 1), $3))
        where topic_id = $1 and partition = $2
       returning first_offset`,
      [topicId, partition.partition, floor],
    );
    if (head === undefined) throw partitionMissing(partition);
    for (let deleted = TRIM_BATCHES; deleted === TRIM_BATCHES;) {
      deleted = await this.#db.execute(
        `delete from batch
          where topic_id = $1 and partition = $2 and base_offset in (
            select base_offset from batch
             where topic_id = $1 and partition = $2 and base_offset < $3
             order by base_offset limit ${TRIM_BATCHES})`,
        [topicId, partition.partition, head.first_offset],
      );
    }
  }

  /** Stops members and appenders that are still open, then closes every connection. */
  async close(): Promise<void> {
    await Promise.all([...this.#members].map((member) => member.stop()));
    await Promise.all([...this.#appenders].map((appender) => appender.close()));
    const listener = await this.#listener?.catch(() => undefined);
    await listener?.stop();
    await this.#fetcher.close();
    await this.#announcer.settle();
    await this.#pool.end();
  }

  /** `lock` is a locking clause for the head row, aliased h. */
  async #head(partition: TopicPartition, lock: "" | "for share of h" = "") {
    const [row] = await this.#db.query<{ topic_id: number; first_offset: bigint; next_offset: bigint }>(
      `select h.topic_id, h.first_offset, h.next_offset
         from head h join topic using (topic_id)
        where topic.name = $1 and h.partition = $2 ${lock}`,
      [partition.topic, partition.partition],
    );
    if (row === undefined) throw partitionMissing(partition);
    return { topicId: row.topic_id, first: row.first_offset, next: row.next_offset };
  }

  async #listen(): Promise<void> {
    this.#listener ??= listen(this.#options.connectionString, NEWS_CHANNEL, (payload) => this.#hear(payload));
    try {
      await this.#listener;
    } catch (cause) {
      this.#listener = undefined;
      throw cause;
    }
  }

  #hear(payload: string | undefined): void {
    const news = parseNews(payload);
    if (news.everywhere) this.#fetcher.wakeAll();
    else if (news.partitions.length > 0) this.#fetcher.wake(news.partitions);
    for (const member of this.#members) {
      if (news.everywhere || news.groups.includes(member.group)) member.wake();
    }
  }
}

function partitionMissing({ topic, partition }: TopicPartition): GridrootError {
  return new GridrootError("log-partition-missing", `there is no partition ${partition} of topic ${topic}`);
}
