import { setTimeout as delay } from "node:timers/promises";
import kafkajs, { type Admin } from "kafkajs";
import type { Logger } from "pino";
import { GridrootError } from "../../service/errors.ts";
import type { TopicSpec } from "../event-log.ts";
import type { KafkaConnection } from "./kafka-connection.ts";
import { errorTypes } from "./kafka-errors.ts";
import type { KafkaPartitions } from "./kafka-partitions.ts";

export interface KafkaTopicsOptions {
  /** Replicas of a partition. */
  readonly replication: number;
  /** Replicas that must have a record before an append is confirmed. */
  readonly minInsyncReplicas: number;
  /** Time for topics to be made and to have leaders, ms. */
  readonly timeoutMs: number;
}

/** Settings without which the log would lose records or tell other times than its own: a topic must have them. */
const REQUIRED = {
  "cleanup.policy": "delete",
  // Records go when every consumer has stored an offset beyond them (event-log/retention.ts), never by age or size.
  "retention.ms": "-1",
  "retention.bytes": "-1",
  "message.timestamp.type": "LogAppendTime",
  "unclean.leader.election.enable": "false",
};

/** Settings that an operator may change later. */
const SUGGESTED = {
  // A partition's batch is at most 1 MB before compression (kafka-appender.ts); one record may be more alone.
  "max.message.bytes": "2097152",
  // Trimming frees whole segments: small ones that roll daily free space soon in a quiet region, too.
  "segment.bytes": "268435456",
  "segment.ms": "86400000",
};

/** As the cluster limits it, less the namespace. */
const TOPIC_NAME = /^[A-Za-z0-9._-]{1,200}$/;

/** Pause between looks whether topics have leaders, ms. */
const PAUSE_MS = 50;

/** Makes topics and checks those that are there. */
export class KafkaTopics {
  readonly #options: KafkaTopicsOptions;
  readonly #connection: KafkaConnection;
  readonly #partitions: KafkaPartitions;
  readonly #log: Logger;

  constructor(
    options: KafkaTopicsOptions,
    dependencies: { connection: KafkaConnection; partitions: KafkaPartitions; log: Logger },
  ) {
    this.#options = options;
    this.#connection = dependencies.connection;
    this.#partitions = dependencies.partitions;
    this.#log = dependencies.log;
  }

  /**
   * Idempotent, also where several processes do it at once; what they make is what the first one asked for.
   *
   * @throws GridrootError `topic-name`; `topic-partitions`; `topic-settings` where an existing topic would lose
   *   records or tell other times; `topic-not-created`.
   */
  async ensure(topics: readonly TopicSpec[]): Promise<void> {
    if (topics.length === 0) return;
    for (const { topic } of topics) {
      if (!TOPIC_NAME.test(topic)) throw new GridrootError("topic-name", `not a topic name: ${topic}`);
    }
    const { admin } = this.#connection;
    await this.#create(admin, topics);
    await this.#checkPartitions(admin, topics);
    await this.#checkSettings(admin, topics);
  }

  async #create(admin: Admin, topics: readonly TopicSpec[]): Promise<void> {
    const { replication, minInsyncReplicas, timeoutMs } = this.#options;
    const settings = { ...REQUIRED, ...SUGGESTED, "min.insync.replicas": String(minInsyncReplicas) };
    try {
      await admin.createTopics({
        topics: topics.map(({ topic, partitions }) => ({
          topic: this.#connection.topicName(topic),
          numPartitions: partitions,
          replicationFactor: replication,
          configEntries: Object.entries(settings).map(([name, value]) => ({ name, value })),
        })),
        timeout: timeoutMs,
        waitForLeaders: false,
      });
    } catch (cause) {
      // What exists is left as it is, and the others of the same request are made all the same.
      const types = errorTypes(cause);
      const others = [...types].filter((type) => type !== "TOPIC_ALREADY_EXISTS");
      if (types.size > 0 && others.length === 0) return;
      throw new GridrootError("topic-not-created", `topics were not created: ${others.join(", ")}`, {
        cause,
        retryable: !types.has("INVALID_REPLICATION_FACTOR"),
      });
    }
  }

  /** Waits until every partition is known, led and served. */
  async #checkPartitions(admin: Admin, topics: readonly TopicSpec[]): Promise<void> {
    const deadline = performance.now() + this.#options.timeoutMs;
    const names = topics.map(({ topic }) => this.#connection.topicName(topic));
    for (;;) {
      try {
        const found = await admin.fetchTopicMetadata({ topics: names });
        for (const { topic, partitions } of topics) {
          const metadata = found.topics.find(({ name }) => name === this.#connection.topicName(topic));
          const count = metadata?.partitions.length ?? 0;
          if (count !== partitions) {
            throw new GridrootError(
              "topic-partitions",
              `topic ${topic} has ${count} partitions, ${partitions} are wanted`,
            );
          }
          const replicas = metadata?.partitions[0]?.replicas.length ?? 0;
          if (replicas < this.#options.replication) {
            this.#log.warn(
              { topic, replicas, wanted: this.#options.replication },
              "topic has fewer replicas than are set",
            );
          }
        }
        if (found.topics.every(({ partitions }) => partitions.every(({ leader }) => leader >= 0))) {
          await this.#askLeaders(topics);
          return;
        }
      } catch (cause) {
        const differs = cause instanceof GridrootError && cause.code === "topic-partitions";
        if (differs || performance.now() > deadline) throw cause;
      }
      if (performance.now() > deadline) {
        throw new GridrootError("topic-not-created", "topics have no leaders", { retryable: true });
      }
      await delay(PAUSE_MS);
    }
  }

  /**
   * A broker tells of a partition before it serves it. An append that comes in between is taken by some partitions,
   * refused by others, and sent again to all.
   */
  async #askLeaders(topics: readonly TopicSpec[]): Promise<void> {
    for (const { topic, partitions } of topics) {
      const asked = Array.from({ length: partitions }, (_, partition) =>
        this.#partitions.bounds({ topic, partition }),
      );
      await Promise.all(asked);
    }
  }

  async #checkSettings(admin: Admin, topics: readonly TopicSpec[]): Promise<void> {
    const { minInsyncReplicas } = this.#options;
    const configNames = [...Object.keys(REQUIRED), "min.insync.replicas"];
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: topics.map(({ topic }) => ({
        type: kafkajs.ConfigResourceTypes.TOPIC,
        name: this.#connection.topicName(topic),
        configNames,
      })),
    });
    for (const { resourceName, configEntries } of resources) {
      const topic = this.#connection.topicOf(resourceName);
      const settings = new Map(configEntries.map(({ configName, configValue }) => [configName, configValue]));
      const wrong = Object.entries(REQUIRED).filter(([name, value]) => settings.get(name) !== value);
      if (wrong.length > 0) {
        const found = wrong.map(([name, value]) => `${name} is ${settings.get(name)} instead of ${value}`);
        throw new GridrootError("topic-settings", `topic ${topic} is no log: ${found.join(", ")}`);
      }
      const inSync = Number(settings.get("min.insync.replicas"));
      if (inSync < minInsyncReplicas) {
        this.#log.warn(
          { topic, minInsyncReplicas: inSync, wanted: minInsyncReplicas },
          "topic confirms appends with fewer replicas than are set",
        );
      }
    }
  }
}
