import type { Logger } from "pino";
import { invariant } from "../../service/errors.ts";
import { type FaultPoints, noFaults } from "../../service/faults.ts";
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
import { KafkaAppender } from "./kafka-appender.ts";
import { KafkaConnection, type KafkaSasl } from "./kafka-connection.ts";
import { KafkaGroupMember } from "./kafka-group-member.ts";
import { KafkaPartitions } from "./kafka-partitions.ts";
import { KafkaTopics } from "./kafka-topics.ts";

export interface KafkaEventLogOptions {
  /** Brokers to begin with, host:port. */
  readonly brokers: readonly string[];
  /** Begins the names of topics and groups: `{namespace}.{topic}`. */
  readonly namespace: string;
  /** Replicas of each partition of a topic that is made. */
  readonly replication: number;
  /** Replicas that must have a record before an append is confirmed. */
  readonly minInsyncReplicas: number;
  /** TLS with the certificate authorities that Node trusts. Default false. */
  readonly tls?: boolean;
  readonly sasl?: KafkaSasl;
  /** Bound of connecting to a broker, ms. Default 2000. */
  readonly connectTimeoutMs?: number;
  /** Bound of one request other than an append, ms. Default 10000. */
  readonly requestTimeoutMs?: number;
  /** Bound of an append, connecting and sending again included, ms. Default 4500. */
  readonly appendTimeoutMs?: number;
  /** Producers of an appender, each with one request outstanding. Default 2. */
  readonly producers?: number;
  /** After so long without a sign of life a group's member has left, ms. Default 45000. */
  readonly sessionTimeoutMs?: number;
  /** Time between signs of life, ms. Default 3000, at most a third of the session. */
  readonly heartbeatMs?: number;
  /** Time that the members of a group have to let go of their partitions, ms. Default 60000. */
  readonly rebalanceTimeoutMs?: number;
  /** Most bytes of one partition that a fetch of a consumer brings, compressed. Default 256 KiB. */
  readonly maxPartitionBytes?: number;
  /** Pause before a partition is assigned anew to a handler that rejected, ms. Default 1000. */
  readonly retryPauseMs?: number;
}

export interface KafkaEventLogDependencies {
  readonly log: Logger;
  readonly faults?: FaultPoints;
}

const DEFAULTS = {
  connectTimeoutMs: 2_000,
  requestTimeoutMs: 10_000,
  appendTimeoutMs: 4_500,
  producers: 2,
  sessionTimeoutMs: 45_000,
  heartbeatMs: 3_000,
  rebalanceTimeoutMs: 60_000,
  maxPartitionBytes: 262_144,
  retryPauseMs: 1_000,
};

/** Time for topics to be made and for a partition's leader to be found, ms: longer than a leader takes to move. */
const LEADERS_TIMEOUT_MS = 20_000;

/** The event log in topics of an Apache Kafka cluster, of the version of deploy/stack/versions.ts or later. */
export class KafkaEventLog implements EventLog {
  readonly #options: typeof DEFAULTS;
  readonly #log: Logger;
  readonly #faults: FaultPoints;
  readonly #connection: KafkaConnection;
  readonly #topics: KafkaTopics;
  readonly #partitions: KafkaPartitions;
  readonly #appenders = new Set<Appender>();
  readonly #members = new Set<GroupMember>();

  private constructor(
    options: KafkaEventLogOptions,
    dependencies: KafkaEventLogDependencies & { connection: KafkaConnection },
  ) {
    this.#options = { ...DEFAULTS, ...options };
    const { heartbeatMs, sessionTimeoutMs, producers } = this.#options;
    invariant(sessionTimeoutMs >= 3 * MIN_HEARTBEAT_MS && producers >= 1, "the log's limits fit one another");
    this.#options.heartbeatMs = Math.min(heartbeatMs, Math.floor(sessionTimeoutMs / 3));
    this.#log = dependencies.log;
    this.#faults = dependencies.faults ?? noFaults;
    this.#connection = dependencies.connection;
    const { replication, minInsyncReplicas } = options;
    this.#partitions = new KafkaPartitions(
      { minInsyncReplicas, timeoutMs: LEADERS_TIMEOUT_MS },
      dependencies,
    );
    this.#topics = new KafkaTopics(
      { replication, minInsyncReplicas, timeoutMs: LEADERS_TIMEOUT_MS },
      { ...dependencies, partitions: this.#partitions },
    );
  }

  /** Connects and reads the cluster's id. */
  static async open(
    options: KafkaEventLogOptions,
    dependencies: KafkaEventLogDependencies,
  ): Promise<KafkaEventLog> {
    const log = dependencies.log.child({ part: "event-log" });
    const connection = await KafkaConnection.open({ ...DEFAULTS, ...options }, { log });
    return new KafkaEventLog(options, { ...dependencies, log, connection });
  }

  ensureTopics(topics: readonly TopicSpec[]): Promise<void> {
    return this.#topics.ensure(topics);
  }

  openAppender(): Promise<Appender> {
    const appender = new KafkaAppender(this.#options, {
      connection: this.#connection,
      log: this.#log,
      faults: this.#faults,
    });
    this.#appenders.add(appender);
    return Promise.resolve(appender);
  }

  bounds(partition: TopicPartition): Promise<PartitionBounds> {
    return this.#partitions.bounds(partition);
  }

  offsetAfter(partition: TopicPartition, appendTimeMs: number): Promise<bigint> {
    return this.#partitions.offsetAfter(partition, appendTimeMs);
  }

  read(partition: TopicPartition, fromOffset: bigint, maxRecords: number): Promise<readonly LogRecord[]> {
    return this.#partitions.read(partition, fromOffset, maxRecords);
  }

  async join(group: string, topics: readonly string[], handler: PartitionHandler): Promise<GroupMember> {
    const { sessionTimeoutMs, heartbeatMs, rebalanceTimeoutMs, maxPartitionBytes, retryPauseMs } =
      this.#options;
    const member = await KafkaGroupMember.start(
      {
        group,
        topics,
        handler,
        sessionTimeoutMs,
        heartbeatMs,
        rebalanceTimeoutMs,
        maxPartitionBytes,
        retryPauseMs,
      },
      { connection: this.#connection, positions: this.#partitions, log: this.#log },
    );
    this.#members.add(member);
    return member;
  }

  trim(partition: TopicPartition, belowOffset: bigint): Promise<void> {
    return this.#partitions.trim(partition, belowOffset);
  }

  /** Stops members and appenders that are still open, then ends every connection. */
  async close(): Promise<void> {
    await Promise.all([...this.#members].map((member) => member.stop()));
    await Promise.all([...this.#appenders].map((appender) => appender.close()));
    await this.#partitions.close();
    await this.#connection.close();
  }
}

/** Brokers accept no session shorter than three of these by default. */
const MIN_HEARTBEAT_MS = 2_000;
