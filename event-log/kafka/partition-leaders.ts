import { setTimeout as delay } from "node:timers/promises";
import type { Broker, Cluster } from "kafkajs";
import { GridrootError } from "../../service/errors.ts";
import type { TopicPartition } from "../event-log.ts";
import type { KafkaClient } from "./kafka-client.ts";
import type { KafkaConnection } from "./kafka-connection.ts";
import { errorTypes } from "./kafka-errors.ts";
import { LeaderRequests, type LeaderBroker } from "./leader-requests.ts";

/** How kafkajs itself tries again within one attempt here: hardly, since an attempt begins with fresh metadata. */
const CLIENT_RETRY = { retries: 1, initialRetryTime: 50, maxRetryTime: 200 };

/** Pause before another attempt, ms; it doubles up to the second figure. */
const PAUSE_MS = [50, 1_000] as const;

/** A client of kafkajs with the cluster inside it. */
interface OpenCluster {
  readonly client: KafkaClient;
  readonly cluster: Cluster;
}

/**
 * Requests to the broker that leads a partition. kafkajs has consumers in groups only; a bare fetch would leave a
 * group behind in the cluster for each read. Its cluster, which knows leaders and speaks the protocol, is handed to
 * every partition assigner, and a consumer that never joins leaves no trace.
 */
export class PartitionLeaders {
  readonly #connection: KafkaConnection;
  readonly #timeoutMs: number;
  #open: Promise<OpenCluster> | undefined;
  #opened = 0;
  #closed = false;

  /** `timeoutMs`: time after which no further attempt is begun. */
  constructor(options: { timeoutMs: number }, dependencies: { connection: KafkaConnection }) {
    this.#timeoutMs = options.timeoutMs;
    this.#connection = dependencies.connection;
  }

  /**
   * Runs `work` with the partition's leader, again from its beginning with a fresh client after an error: leaders
   * move, and a topic that has gone makes kafkajs's metadata of every topic fail.
   *
   * @throws GridrootError `log-partition-missing`; `log-unavailable` (retryable) when time is up.
   */
  async withLeader<T>(partition: TopicPartition, work: (leader: LeaderRequests) => Promise<T>): Promise<T> {
    const deadline = performance.now() + this.#timeoutMs;
    let pauseMs: number = PAUSE_MS[0];
    for (let misses = 0; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS[1])) {
      if (this.#closed) throw new GridrootError("log-closed", "the event log was closed");
      this.#open ??= this.#connect();
      const attempt = this.#open;
      try {
        const leader = await this.#leaderOf(partition, (await attempt).cluster);
        if (leader !== undefined) return await work(leader);
        misses += 1;
      } catch (cause) {
        if (errorTypes(cause).has("UNKNOWN_TOPIC_OR_PARTITION")) misses += 1;
        else if (performance.now() + pauseMs > deadline) {
          throw new GridrootError("log-unavailable", "the partition's leader did not answer", {
            cause,
            retryable: true,
          });
        }
      }
      // A broker may not have heard yet of a partition just made: it is missing where a second one says so, too.
      if (misses > 1) throw partitionMissing(partition);
      this.#drop(attempt);
      await delay(pauseMs);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const open = await this.#open?.catch(() => undefined);
    open?.client.cut();
  }

  async #connect(): Promise<OpenCluster> {
    const client = this.#connection.newClient(this.#opened, CLIENT_RETRY);
    this.#opened += 1;
    let cluster: Cluster | undefined;
    client.kafka.consumer({
      groupId: "never-joined",
      allowAutoTopicCreation: false,
      partitionAssigners: [
        (config) => {
          cluster = config.cluster;
          return {
            name: "none",
            version: 0,
            assign: () => Promise.resolve([]),
            protocol: () => ({ name: "none", metadata: Buffer.alloc(0) }),
          };
        },
      ],
    });
    try {
      await cluster!.connect();
    } catch (cause) {
      client.cut();
      throw cause;
    }
    return { client, cluster: cluster! };
  }

  /** Undefined where the cluster has no such partition. */
  async #leaderOf({ topic, partition }: TopicPartition, cluster: Cluster) {
    const name = this.#connection.topicName(topic);
    await cluster.addTargetTopic(name);
    await cluster.refreshMetadataIfNecessary();
    const found = cluster
      .findTopicPartitionMetadata(name)
      .find(({ partitionId }) => partitionId === partition);
    if (found === undefined) return undefined;
    const broker = (await cluster.findBroker({ nodeId: String(found.leader) })) as LeaderBroker & Broker;
    return new LeaderRequests({ broker, name, partition });
  }

  #drop(open: Promise<OpenCluster>): void {
    if (this.#open === open) this.#open = undefined;
    // Others that use it begin anew as well; what they had asked for is cut off.
    open.then(({ client }) => client.cut()).catch(() => {});
  }
}

/** An error for a topic or partition that the cluster does not have. */
export function partitionMissing({ topic, partition }: TopicPartition): GridrootError {
  return new GridrootError("log-partition-missing", `there is no partition ${partition} of topic ${topic}`);
}
