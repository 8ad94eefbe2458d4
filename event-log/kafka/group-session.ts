import type { Cluster, Consumer } from "kafkajs";
import type { Logger } from "pino";
import type { Position, TopicPartition } from "../event-log.ts";
import type { Fetching } from "./fetched-partition.ts";
import { claimsAssigner, type PartitionsByTopic } from "./group-assignment.ts";
import type { KafkaClient } from "./kafka-client.ts";
import type { KafkaConnection } from "./kafka-connection.ts";
import type { FetchedMessage } from "./kafka-records.ts";

export interface SessionOptions {
  readonly group: string;
  readonly topics: readonly string[];
  /** A member of which the coordinator hears nothing for so long has left, ms. */
  readonly sessionTimeoutMs: number;
  readonly heartbeatMs: number;
  /** Within this time every member joins again when the group changes, ms. */
  readonly rebalanceTimeoutMs: number;
  /** Bytes of one partition that one fetch asks for, as the log stores them. */
  readonly maxPartitionBytes: number;
}

/** What a session tells its member. None of these may throw or wait. */
export interface SessionEvents {
  /** What the member works on, or has not given up yet. */
  claims(): readonly TopicPartition[];
  /** The group has shared out: these are the member's partitions now, all of them held. */
  joined(partitions: readonly TopicPartition[]): void;
  fetched(partition: TopicPartition, messages: readonly FetchedMessage[]): void;
  heartbeat(): void;
  /** The coordinator has not been heard of for some heartbeats. */
  silent(): void;
}

/** How long a fetch waits for records, and so how long a partition waits at most to be fetched again, ms. */
const FETCH_WAIT_MS = 100;
/** Bytes that one fetch asks of one broker, as the log stores them. */
const FETCH_BYTES = 4_194_304;
/** Leaders move within some 10 s; kafkajs pauses longer and longer, up to 1 s. */
const RETRY = { initialRetryTime: 100, maxRetryTime: 1_000, retries: 16 };
/** After so many heartbeats without an answer the coordinator is looked for again. */
const SILENT_HEARTBEATS = 2;
/** Time to leave the group in order, ms. */
const LEAVE_MS = 3_000;

/**
 * One membership of a group: one kafkajs consumer, from joining to the moment when it must count as lost. It is never
 * revived: kafkajs's own restart is off, its successor is a consumer of its own.
 *
 * kafkajs joins again by itself without telling in time or waiting for anybody, so nothing here is taken from a member at the
 * beginning of a rebalance; what moves is agreed on by claims (group-assignment.ts).
 */
export class GroupSession implements Fetching {
  /** Resolves with the reason once the membership is lost or given up. */
  readonly ended: Promise<string>;
  readonly #options: SessionOptions;
  readonly #connection: KafkaConnection;
  readonly #events: SessionEvents;
  readonly #log: Logger;
  readonly #client: KafkaClient;
  readonly #consumer: Consumer;
  readonly #end: (reason: string) => void;
  #over = false;
  #running: Promise<void> = Promise.resolve();
  #rejoinWanted = false;
  #memberId: string | undefined;
  /** When the coordinator counts as silent, on the clock of `performance`. */
  #silentAt = Infinity;
  #lapse: NodeJS.Timeout | undefined;
  /** When it may have given the membership up. */
  #lapsesAt = Infinity;

  private constructor(
    options: SessionOptions,
    dependencies: { connection: KafkaConnection; events: SessionEvents; log: Logger; firstBroker: number },
  ) {
    const { promise, resolve } = Promise.withResolvers<string>();
    this.ended = promise;
    this.#end = resolve;
    this.#options = options;
    this.#connection = dependencies.connection;
    this.#events = dependencies.events;
    this.#log = dependencies.log;
    this.#client = dependencies.connection.newClient(dependencies.firstBroker, RETRY);
    this.#consumer = this.#client.kafka.consumer({
      groupId: dependencies.connection.groupName(options.group),
      sessionTimeout: options.sessionTimeoutMs,
      heartbeatInterval: options.heartbeatMs,
      rebalanceTimeout: options.rebalanceTimeoutMs,
      maxBytesPerPartition: options.maxPartitionBytes,
      maxBytes: FETCH_BYTES,
      maxWaitTimeInMs: FETCH_WAIT_MS,
      allowAutoTopicCreation: false,
      retry: { ...RETRY, restartOnFailure: () => Promise.resolve(false) },
      partitionAssigners: [({ cluster }) => this.#assigner(cluster)],
    });
  }

  /** Connects and begins to join. Rejects where the cluster cannot be reached or lacks a topic. */
  static async open(
    options: SessionOptions,
    dependencies: { connection: KafkaConnection; events: SessionEvents; log: Logger; firstBroker: number },
  ): Promise<GroupSession> {
    const session = new GroupSession(options, dependencies);
    try {
      await session.#open();
    } catch (cause) {
      session.#client.cut();
      throw cause;
    }
    return session;
  }

  from({ topic, partition }: TopicPartition, offset: bigint): void {
    const name = this.#connection.topicName(topic);
    this.#steer((consumer) => {
      consumer.seek({ topic: name, partition, offset: String(offset) });
      consumer.resume([{ topic: name, partitions: [partition] }]);
    });
  }

  hold({ topic, partition }: TopicPartition): void {
    const name = this.#connection.topicName(topic);
    this.#steer((consumer) => consumer.pause([{ topic: name, partitions: [partition] }]));
  }

  /** Has the group share out again, soon. */
  rejoin(): void {
    this.#rejoinWanted = true;
  }

  /** Tells the group's coordinator how far consumers have come. Rejects when it cannot be told. */
  async commit(positions: readonly { partition: TopicPartition; position: Position }[]): Promise<void> {
    if (this.#over || positions.length === 0) return;
    await this.#consumer.commitOffsets(
      positions.map(({ partition: { topic, partition }, position }) => ({
        topic: this.#connection.topicName(topic),
        partition,
        offset: String(position.nextOffset),
      })),
    );
  }

  /** Counts the membership as lost. Idempotent. */
  end(reason: string): void {
    this.#over = true;
    clearTimeout(this.#lapse);
    this.#end(reason);
  }

  /** Leaves the group, in order where the cluster answers in time. */
  async close(): Promise<void> {
    this.end("closed");
    // kafkajs waits for answers and for joins under way; cut off, it has nothing to wait for.
    const cut = setTimeout(() => this.#client.cut(), LEAVE_MS);
    await this.#running;
    await this.#consumer.disconnect().catch(() => {});
    clearTimeout(cut);
    this.#client.cut();
  }

  #steer(act: (consumer: Consumer) => void): void {
    if (this.#over) return;
    try {
      act(this.#consumer);
    } catch (error) {
      // It refuses everything from when it crashes, and tells of the crash once it has disconnected.
      this.#log.debug({ err: error }, "group's consumer cannot be steered any more");
    }
  }

  async #open(): Promise<void> {
    const consumer = this.#consumer;
    const { GROUP_JOIN, HEARTBEAT, REBALANCING, CRASH } = consumer.events;
    consumer.on(GROUP_JOIN, ({ payload }) => this.#joined(payload.memberId, payload.memberAssignment));
    consumer.on(HEARTBEAT, () => {
      if (this.#proven()) this.#events.heartbeat();
    });
    consumer.on(REBALANCING, () => this.#proven());
    consumer.on(CRASH, ({ payload }) => {
      if (!this.#over) this.#log.warn({ err: payload.error }, "group's consumer crashed");
      this.end("crashed");
    });
    await consumer.connect();
    const topics = this.#options.topics.map((topic) => this.#connection.topicName(topic));
    await consumer.subscribe({ topics, fromBeginning: true });
    this.#running = consumer
      .run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch: ({ batch }) => {
          if (!this.#over) this.#events.fetched(this.#partitionOf(batch), batch.messages);
          return Promise.resolve();
        },
      })
      .catch((error: unknown) => {
        this.#log.warn({ err: error }, "group's consumer did not start");
        this.end("crashed");
      });
  }

  /**
   * kafkajs cannot be asked to join again. But before each fetch it looks whether its cluster's metadata is fresh, and
   * what a broker would answer during a rebalance, said there, makes it join again as the same member.
   */
  #assigner(cluster: Cluster) {
    const refresh = cluster.refreshMetadataIfNecessary.bind(cluster);
    cluster.refreshMetadataIfNecessary = async () => {
      if (this.#shallRejoin()) throw rejoining();
      await refresh();
    };
    return claimsAssigner(cluster, () => this.#claims());
  }

  /**
   * True when asked to, and when the coordinator is silent: kafkajs sends its heartbeats to a dead one until it
   * crashes, and looks for the one that took its place only to join.
   */
  #shallRejoin(): boolean {
    const now = performance.now();
    const silent = now >= this.#silentAt;
    if (!this.#rejoinWanted && !silent) return false;
    if (silent) this.#events.silent();
    this.#rejoinWanted = false;
    this.#silentAt = now + SILENT_HEARTBEATS * this.#options.heartbeatMs;
    return true;
  }

  #claims(): PartitionsByTopic {
    const claims: Record<string, number[]> = {};
    for (const { topic, partition } of this.#over ? [] : this.#events.claims()) {
      (claims[this.#connection.topicName(topic)] ??= []).push(partition);
    }
    return claims;
  }

  #joined(memberId: string, assignment: PartitionsByTopic): void {
    if (!this.#proven()) return;
    // Between two memberships others may have had the partitions.
    if (this.#memberId !== undefined && this.#memberId !== memberId) return this.end("thrown out");
    this.#memberId = memberId;
    const partitions = Object.entries(assignment).flatMap(([topic, numbers]) =>
      numbers.map((partition) => this.#partitionOf({ topic, partition })),
    );
    // kafkajs fetches everything that is its own from the committed offset, unless held before this event ends.
    for (const partition of partitions) this.hold(partition);
    this.#events.joined(partitions);
  }

  #partitionOf({ topic, partition }: TopicPartition): TopicPartition {
    return { topic: this.#connection.topicOf(topic), partition };
  }

  /**
   * The coordinator has answered; false when that comes too late to mean anything: a process that was suspended reads old
   * answers before its timers run.
   */
  #proven(): boolean {
    if (this.#over) return false;
    const now = performance.now();
    if (now > this.#lapsesAt) {
      this.#lapsed();
      return false;
    }
    this.#silentAt = now + SILENT_HEARTBEATS * this.#options.heartbeatMs;
    this.#lapsesAt = now + this.#options.sessionTimeoutMs;
    clearTimeout(this.#lapse);
    this.#lapse = setTimeout(() => this.#lapsed(), this.#options.sessionTimeoutMs);
    return true;
  }

  #lapsed(): void {
    this.#log.warn("group's coordinator was not heard of in time, the membership counts as lost");
    this.end("lapsed");
  }
}

/** Takes the type of a broker's answer, which is what kafkajs looks at. */
function rejoining(): Error {
  const error = new Error("the member joins the group again");
  return Object.assign(error, { type: "REBALANCE_IN_PROGRESS" });
}
