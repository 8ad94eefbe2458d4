import { type Admin, Kafka, type KafkaConfig, logLevel, type SASLOptions } from "kafkajs";
import type { Logger } from "pino";
import { clientLog } from "./kafka-client-log.ts";
import { registerZstd } from "./zstd-codec.ts";

export interface KafkaSasl {
  readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
  readonly username: string;
  readonly password: string;
}

export interface KafkaConnectionOptions {
  /** Brokers to begin with, host:port. */
  readonly brokers: readonly string[];
  /** Begins the names of topics and groups. */
  readonly namespace: string;
  /** TLS with Node's trusted authorities. Default false. */
  readonly tls?: boolean;
  readonly sasl?: KafkaSasl;
  /** Bound of connecting to a broker, ms. */
  readonly connectTimeoutMs: number;
  /** Bound of one request, ms; a fetch that waits for records takes its waiting time besides. */
  readonly requestTimeoutMs: number;
}

/** One Kafka client of the process: what its parts share. */
export class KafkaConnection {
  /** Producers and consumers are made of it; whoever makes one disconnects it. */
  readonly kafka: Kafka;
  readonly admin: Admin;
  readonly clusterId: string;
  readonly #namespace: string;

  private constructor(kafka: Kafka, admin: Admin, clusterId: string, namespace: string) {
    this.kafka = kafka;
    this.admin = admin;
    this.clusterId = clusterId;
    this.#namespace = namespace;
  }

  /** Connects the admin client and reads the cluster's id. */
  static async open(
    options: KafkaConnectionOptions,
    dependencies: { log: Logger },
  ): Promise<KafkaConnection> {
    registerZstd();
    const kafka = new Kafka({
      clientId: "gridroot",
      ...configOf(options),
      logLevel: logLevel.INFO,
      logCreator: clientLog(dependencies.log),
    });
    const admin = kafka.admin();
    try {
      await admin.connect();
      const { clusterId } = await admin.describeCluster();
      return new KafkaConnection(kafka, admin, clusterId, options.namespace);
    } catch (cause) {
      await admin.disconnect().catch(() => {});
      throw cause;
    }
  }

  /** The name of a topic in the cluster. */
  topicName(topic: string): string {
    return `${this.#namespace}.${topic}`;
  }

  /** The topic of a name in the cluster, which must be one of this namespace. */
  topicOf(name: string): string {
    return name.slice(this.#namespace.length + 1);
  }

  /** The name of a group in the cluster. */
  groupName(group: string): string {
    return `${this.#namespace}.${group}`;
  }

  async close(): Promise<void> {
    await this.admin.disconnect();
  }
}

function configOf(options: KafkaConnectionOptions): KafkaConfig {
  const { brokers, tls, sasl, connectTimeoutMs, requestTimeoutMs } = options;
  return {
    brokers: [...brokers],
    connectionTimeout: connectTimeoutMs,
    requestTimeout: requestTimeoutMs,
    ...(tls === true ? { ssl: true } : {}),
    ...(sasl === undefined ? {} : { sasl: sasl as SASLOptions }),
  };
}
