import { setTimeout as delay } from "node:timers/promises";
import type { Broker, Cluster, PartitionMetadata } from "kafkajs";
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

export interface PartitionLeadersOptions {
  /** Replicas that must have a record before an append is confirmed. */
  readonly minInsyncReplicas: number;
  /** Time after which no further attempt is begun, ms. */
  readonly timeoutMs: number;
}

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
  readonly #minInsyncReplicas: number;
  readonly #timeoutMs: number;
  #open: Promise<OpenCluster> | undefined;
  #opened = 0;
  #closed = false;

  constructor(options: PartitionLeadersOptions, dependencies: { connection: KafkaConnection }) {
    this.#minInsyncReplicas = options.minInsyncReplicas;
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
    await this.#confirmLeader(found, name, cluster);
    const broker = (await cluster.findBroker({ nodeId: String(found.leader) })) as LeaderBroker & Broker;
    return new LeaderRequests({ broker, name, partition });
  }

  /**
   * A broker that was paused or cut off takes itself for the leader still, and would answer with a log that ends
   * where it was replaced. So the leader is believed when so many replicas name it that no append can have been
   * confirmed without one of them.
   */
  async #confirmLeader(
    { leader, partitionId, replicas }: PartitionMetadata,
    name: string,
    cluster: Cluster,
  ): Promise<void> {
    const wanted = replicas.length - this.#minInsyncReplicas;
    if (wanted <= 0) return;
    const asked = replicas
      .filter((nodeId) => nodeId !== leader)
      .map(async (nodeId) => {
        const broker: Broker = await cluster.findBroker({ nodeId: String(nodeId) });
        const { topicMetadata } = await broker.metadata([name]);
        const named = topicMetadata[0]?.partitionMetadata.find((one) => one.partitionId === partitionId);
        if (named?.leader !== leader) throw new Error(`broker ${nodeId} knows another leader`);
      });
    if (!(await someFulfil(asked, wanted))) {
      throw new GridrootError("log-unavailable", "the brokers do not agree on the partition's leader", {
        retryable: true,
      });
    }
  }

  #drop(open: Promise<OpenCluster>): void {
    if (this.#open === open) this.#open = undefined;
    // Others that use it begin anew as well; what they had asked for is cut off.
    open.then(({ client }) => client.cut()).catch(() => {});
  }
}

/** Whether so many of them fulfil; waits for no more than it takes to know. */
function someFulfil(promises: readonly Promise<unknown>[], wanted: number): Promise<boolean> {
  let missing = wanted;
  let spare = promises.length - wanted;
  return new Promise((resolve) => {
    if (spare < 0) resolve(false);
    for (const one of promises) {
      one.then(
        () => (missing -= 1) === 0 && resolve(true),
        () => (spare -= 1) < 0 && resolve(false),
      );
    }
  });
}

/** An error for a topic or partition that the cluster does not have. */
export function partitionMissing({ topic, partition }: TopicPartition): GridrootError {
  return new GridrootError("log-partition-missing", `there is no partition ${partition} of topic ${topic}`);
}
